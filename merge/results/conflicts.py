"""Which of several results of one run counts. Pure; the order of the inputs does not matter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from merge.results.entries import Entry

OnConflict = Literal["error", "newest", "keep-first"]
"""What to count of different results of one run: none, the last finished, the first finished."""

POLICIES: tuple[str, ...] = get_args(OnConflict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Different results of one run."""

    run_id: str
    sources: tuple[str, ...]
    """For each result the inputs that hold it."""
    values: tuple[float, ...]
    """Of the study's metric."""
    entries: tuple[Entry, ...]
    counted: Entry | None
    """The result that the policy counts; None if none is counted."""

    def to_json(self, metric: str) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "counted": None if self.counted is None else self.counted.token,
            "results": [
                {
                    "value": entry.metrics.get(metric),
                    "token": entry.token,
                    "attempt": entry.attempt,
                    "finished": entry.finished,
                    **({"origin": "legacy"} if entry.is_legacy else {}),
                }
                for entry in self.entries
            ],
        }


def agree(entries: Iterable[Entry]) -> bool:
    """Whether no metric has two values among `entries`."""
    seen: dict[str, float] = {}
    return all(
        seen.setdefault(name, value) == value
        for entry in entries
        for name, value in entry.metrics.items()
    )


def choose(entries: Sequence[Entry], policy: OnConflict) -> Entry | None:
    """The entry that is counted; None where they differ and `policy` cannot or must not decide.

    Legacy results carry no time, so no policy prefers one to a result that does.
    """
    timed = [entry for entry in entries if not entry.is_legacy]
    if agree(entries):
        # They have the same numbers; the choice decides only whose token and times are shown. The
        # earliest: a later copy then changes nothing.
        return min(timed or entries, key=lambda entry: entry.order)
    if policy == "error" or not timed:
        return None
    if policy == "newest":
        return max(timed, key=lambda entry: entry.order)
    return min(timed, key=lambda entry: entry.order)
