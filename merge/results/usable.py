"""Results whose numbers cannot be: they are kept and reported, and never counted. Pure."""

from __future__ import annotations

from dataclasses import replace

from merge.errors import RecordError
from merge.records.manifest import Manifest
from merge.results.entries import Entry, Problem
from merge.results.unite import Contribution


def without_unusable(part: Contribution, manifest: Manifest) -> Contribution:
    """`part`, its results outside of a metric's range as problems instead of entries.

    Files are checked where they are read; a merged view of an older version may hold such results.
    """
    found = {
        run_id: [(entry, _problem(entry, manifest)) for entry in entries]
        for run_id, entries in part.entries.items()
    }
    problems = [one for pairs in found.values() for _, one in pairs if one is not None]
    if not problems:
        return part
    kept = {id_: [e for e, problem in pairs if problem is None] for id_, pairs in found.items()}
    return replace(
        part,
        entries={run_id: entries for run_id, entries in kept.items() if entries},
        problems=(*part.problems, *problems),
    )


def _problem(entry: Entry, manifest: Manifest) -> Problem | None:
    name = f"result of {entry.run_id}"
    try:
        manifest.check_ranges(name, entry.metrics)
    except RecordError as error:
        return Problem(run_id=entry.run_id, file=name, reason=str(error))
    return None
