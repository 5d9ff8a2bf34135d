"""How often the memory and the time of a run were too little, as SLURM and its attempts tell."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from merge.records.records import Cause
from merge.records.sweep import Run
from merge.storage.paths import SweepPaths
from orchestrator.runs.requests import all_attempts
from orchestrator.slurm.jobs import query_or_raise, read_submitted_tasks
from orchestrator.slurm.queue import TaskRow
from orchestrator.slurm.record import read_submissions


def needed_raises(output: Path, runs: Collection[Run]) -> dict[str, dict[str, int]]:
    """Run id -> how often `mem` and `time` are to be raised in its next task; only where they are.

    Each time its newest task ran out of memory or reached its time limit, one more than that task
    had. SchedulerError where SLURM gives no answer.
    """
    ids = {run.run_id for run in runs}
    submitted = read_submitted_tasks(output, ids)
    tasks: dict[str, str] = {}
    for task, run_ids in submitted.runs_of.items():
        tasks.update(dict.fromkeys(ids.intersection(run_ids), task))
    rows = query_or_raise(submitted, dict.fromkeys(tasks.values())).rows
    had = _raises_of_tasks(output)
    found = {}
    for run in runs:
        if newest := tasks.get(run.run_id):
            more = _too_little(rows.get(newest), output, run)
            counts = {
                key: had.get(newest, {}).get(key, 0) + (key == more) for key in ("mem", "time")
            }
            found[run.run_id] = {key: count for key, count in counts.items() if count}
    return {run_id: counts for run_id, counts in found.items() if counts}


def _raises_of_tasks(output: Path) -> dict[str, dict[str, int]]:
    return {
        array.task_id(index): dict(array.num_raises)
        for submission in read_submissions(output)
        for array in submission.arrays
        for index in range(len(array.tasks))
    }


def _too_little(row: TaskRow | None, output: Path, run: Run) -> str:
    """`mem` or `time` where the task had too little of it; else empty."""
    if row is not None and row.state == "OUT_OF_MEMORY":
        return "mem"
    if row is not None and row.state == "TIMEOUT":
        return "time"
    if row is not None and row.state == "CANCELLED":
        return ""
    # A trainer that the kernel killed within a task that went on: only its attempt says so.
    attempts = all_attempts(SweepPaths(output).run(run.path))
    return "mem" if attempts and attempts[-1].cause is Cause.HOST_OOM else ""
