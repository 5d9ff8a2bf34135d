"""What `replicate doctor` finds: one line a check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from orchestrator.s3.permissions import Permission

Verdict = Literal["ok", "warning", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried or looked at."""

    name: str
    verdict: Verdict
    """`refused`: papergrid must not be used so; `warning`: it works, and something is worse."""
    finding: str
    fix: str = ""
    """What to do, where the verdict is not ok."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The same for machines; seconds, counts, bytes."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def checks_of_rights(rights: Iterable[Permission]) -> list[Check]:
    """What a bucket allows, as checks."""
    return [
        Check(
            name=f"bucket: {right.name}",
            verdict="ok" if right.is_given else "refused" if right.is_needed else "warning",
            finding="permitted" if right.is_given else "not permitted",
            fix=right.reason,
        )
        for right in rights
    ]


def is_refused(checks: Iterable[Check]) -> bool:
    """Whether any of `checks` says that papergrid must not be used so."""
    return any(check.verdict == "refused" for check in checks)
