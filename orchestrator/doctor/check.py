"""What `replicate doctor` finds: one line for each check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from orchestrator.s3.permissions import Permission

Verdict = Literal["ok", "warning", "refused"]


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check."""

    name: str
    verdict: Verdict
    """`refused`: papergrid must not be used so; `warning`: it works, and something is worse."""
    finding: str
    fix: str = ""
    """What to do, where the verdict is not ok."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The finding for programs: seconds, counts, bytes."""

    def __post_init__(self) -> None:
        if self.verdict == "ok":
            object.__setattr__(self, "fix", "")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def checks_of_rights(rights: Iterable[Permission]) -> list[Check]:
    """What a bucket permits, as checks."""
    return [
        Check(f"bucket: {right.name}", "ok", "permitted")
        if right.is_given
        else Check(
            f"bucket: {right.name}",
            "refused" if right.is_needed else "warning",
            "not permitted",
            right.reason,
        )
        for right in rights
    ]


def is_refused(checks: Iterable[Check]) -> bool:
    """Whether any of `checks` is refused."""
    return any(check.verdict == "refused" for check in checks)
