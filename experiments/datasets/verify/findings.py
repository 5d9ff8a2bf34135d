"""What is wrong with a copy of a data set: every problem counted, the first of each kind kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["missing", "wrong"]

EXIT_CODES: dict[Severity, int] = {"missing": 3, "wrong": 1}
"""A copy with problems of both severities is `wrong`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is missing or wrong; `kind` groups equal ones."""

    severity: Severity
    kind: str
    message: str


@dataclass(slots=True)
class Findings:
    """The problems of one data set; of each kind at most `limit` are kept, all are counted."""

    dataset: str
    limit: int
    kept: list[Problem] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    severities: set[Severity] = field(default_factory=set)
    checked: dict[str, int] = field(default_factory=dict)
    """How many files or names of each sort were looked at."""
    place: str = ""
    """Where the copy was found, in which layout; empty where there is nothing to say."""

    def add(self, problem: Problem) -> None:
        self.totals[problem.kind] += 1
        self.severities.add(problem.severity)
        if self.totals[problem.kind] <= self.limit:
            self.kept.append(problem)

    def missing(self, kind: str, message: str) -> None:
        self.add(Problem("missing", kind, message))

    def wrong(self, kind: str, message: str) -> None:
        self.add(Problem("wrong", kind, message))

    def expect_count(self, what: str, found: int, wanted: object) -> None:
        """Note how many there are; a problem where another number is known to be right."""
        self.checked[what] = found
        if isinstance(wanted, int) and found != wanted:
            severity: Severity = "missing" if found < wanted else "wrong"
            message = f"{what}: {found:,}, the published data set has {wanted:,}"
            self.add(Problem(severity, "count", message))

    @property
    def exit_code(self) -> int:
        if "wrong" in self.severities:
            return EXIT_CODES["wrong"]
        return EXIT_CODES["missing"] if self.severities else 0
