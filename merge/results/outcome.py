"""The messages of a merge about files that it did not count, and its exit code. Pure."""

from __future__ import annotations

from merge.results.combine import Merged


def exit_code(merged: Merged) -> int:
    """0 complete, 1 something could not be counted, 3 a cell of the table lacks runs."""
    if not (merged.is_clean and merged.is_usable):
        return 1
    # No results at all is incomplete, although no cell lacks a run.
    return 0 if merged.is_complete and merged.document["results"] else 3


def left_out(merged: Merged) -> list[str]:
    """A line for each file that was left out, each conflict with its sources, each note."""
    lines = [f"note: {note}" for note in merged.notes]
    for problem in merged.problems:
        where = f"{problem.folder}/{problem.file}" if problem.folder else problem.file
        lines.append(f"quarantined: {where}: {problem.reason}")
    for problem in merged.aside:
        where = f"{problem.folder}/{problem.file}" if problem.folder else problem.file
        lines.append(f"left out: {where}: {problem.reason}")
    for conflict in merged.conflicts:
        found = " and ".join(
            f"{value:g} in {source}"
            for value, source in zip(conflict.values, conflict.sources, strict=True)
        )
        lines.append(f"conflict: {conflict.run_id}: {found}")
    if any(conflict.counted is None for conflict in merged.conflicts):
        lines.append(
            "conflict: none of them is counted: find out which one is right and move the other one "
            "away, or choose with --on-conflict newest or keep-first"
        )
    for name, evaluation in merged.evaluations.items():
        lines += [f"evaluation {name}: {line}" for line in left_out(evaluation)]
    return lines
