"""Results whose numbers cannot be: they are kept and reported, and never counted. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from merge.errors import RecordError
from merge.records.manifest import Manifest
from merge.results.entries import Entry, Problem


def split_usable(entries: Iterable[Entry], manifest: Manifest) -> tuple[list[Entry], list[Problem]]:
    """Those of `entries` whose numbers are in the ranges of `manifest`, and the others as problems.

    For results that come without their files: files are checked where they are read.
    """
    usable: list[Entry] = []
    problems: list[Problem] = []
    for entry in entries:
        name = f"result of {entry.run_id}"
        try:
            manifest.check_ranges(name, entry.metrics)
            usable.append(entry)
        except RecordError as error:
            problems.append(Problem(run_id=entry.run_id, file=name, reason=str(error)))
    return usable, problems
