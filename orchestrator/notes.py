"""The problems of one file, collected while it is checked, so that all are told at once."""

from __future__ import annotations

from collections.abc import Iterable

from merge.errors import StudyError
from orchestrator.document import Document, Place, Problem, as_lines, spelled


class Notes:
    """Problems found so far in `document`, and in files that it refers to."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._problems: list[Problem] = []
        self._elsewhere: list[str] = []
        self._touched: set[str] = set()

    def add(self, place: Place, message: str, *, at_key: bool = False) -> None:
        """Note a problem at `place` of the file."""
        self.extend([self.document.problem(place, message, at_key=at_key)])

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self._problems.append(problem)
            self._touched.add(problem.where.split(".")[0].split("[")[0])

    def add_elsewhere(self, error: StudyError) -> None:
        """Note the problems of another file, which this one refers to."""
        self._elsewhere += error.problems

    def touches(self, *keys: str) -> bool:
        """Whether any problem lies below one of these keys at the top of the file."""
        return not self._touched.isdisjoint(keys)

    def has(self, place: Place) -> bool:
        """Whether a problem was noted at exactly this place."""
        return any(problem.where == spelled(place) for problem in self._problems)

    @property
    def is_empty(self) -> bool:
        return not self._problems and not self._elsewhere

    def raise_if_any(self) -> None:
        """StudyError with every problem, in the order of the file."""
        lines = (*as_lines(self._problems), *self._elsewhere)
        if lines:
            raise StudyError(str(self.document.path), lines)
