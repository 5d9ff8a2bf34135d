"""What `replicate doctor` finds: one line for each check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from merge.errors import PapergridError

if TYPE_CHECKING:
    from orchestrator.s3.permissions import Permission

Verdict = Literal["ok", "warning", "refused"]
Found = tuple[str, dict[str, Any]]
"""A finding, and its numbers."""


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


def attempt(
    name: str, action: Callable[[], Found], failure: str, fix: str, problem: Verdict = "refused"
) -> Check:
    """`ok` with what `action` finds; `problem` with `failure` and the reason where it raises."""
    try:
        finding, numbers = action()
    except (OSError, PapergridError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        return Check(name, problem, f"{failure}: {reason}", fix)
    return Check(name, "ok", finding, numbers=numbers)


def checks_of_rights(rights: Iterable[Permission]) -> list[Check]:
    """What a bucket permits, as checks."""
    checks = []
    for right in rights:
        verdict: Verdict = "ok" if right.is_given else "refused" if right.is_needed else "warning"
        finding = "permitted" if right.is_given else "not permitted"
        checks.append(Check(f"bucket: {right.name}", verdict, finding, right.reason))
    return checks


def is_refused(checks: Iterable[Check]) -> bool:
    """Whether any of `checks` is refused."""
    return any(check.verdict == "refused" for check in checks)
