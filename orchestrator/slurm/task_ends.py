"""What a task that ended before papergrid recorded an attempt left: its log, and on which node.

A set-up line that fails, or a folder that is not mounted, ends a task before any run's file tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from merge.storage.paths import SweepPaths
from orchestrator.runs.progress import read_tail
from orchestrator.runs.states import RunState, State
from orchestrator.slurm.queue import TaskRow

_MOST_LOGS = 50
"""Logs that are read for one status: the others are named only."""
_LONGEST_LINE = 200


def with_ends(
    output: Path,
    scripts: Mapping[str, tuple[str, str]],
    rows: Sequence[TaskRow | None],
    before: Sequence[RunState],
    after: Sequence[RunState],
) -> list[RunState]:
    """The states `after`, where a run failed with its task alone: with the task's log and node.

    `before` are the states as the runs' own files tell them; `scripts` gives the submission and
    array of a task; `rows` are the rows of the runs' tasks.
    """
    ended = {
        index: row
        for index, (row, old, new) in enumerate(zip(rows, before, after, strict=True))
        if row and old.state is State.PENDING and new.state is State.FAILED
    }
    per_node = Counter({row.id: row.nodes for row in ended.values() if row.nodes}.values())
    states = list(after)
    for count, (index, row) in enumerate(ended.items()):
        words = _log_words(output, row, scripts.get(row.id), is_read=count < _MOST_LOGS)
        if (others := per_node[row.nodes]) > 1:
            words += (
                f"; {others} tasks ended so on {row.nodes}: if the node is at fault, leave it out "
                f"with `sbatch: {{exclude: {row.nodes}}}`"
            )
        states[index] = replace(states[index], reason=states[index].reason + words)
    return states


def _log_words(output: Path, row: TaskRow, place: tuple[str, str] | None, *, is_read: bool) -> str:
    if place is None:
        return ""
    submission, array = place
    path = SweepPaths(output).submission(submission).log(f"{array}-{row.id}")
    line = _last_line(path) if is_read else ""
    return f"; log {path}{line}"


def _last_line(path: Path) -> str:
    if not path.exists():
        return " (it was not written: is this folder mounted on that node?)"
    text = read_tail(path).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return " (it is empty)"
    # Text of other programs: nothing in it may steer a terminal.
    shown = "".join(c if c.isprintable() else " " for c in lines[-1][:_LONGEST_LINE])
    return f" ends with: {shown}"
