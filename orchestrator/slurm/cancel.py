"""Cancelling in SLURM's queue: waiting tasks at once, running ones after their checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from merge.errors import StorageError
from merge.records.records import EXPIRY_S, RequestAction
from merge.records.sweep import Run, read_sweep
from merge.storage.nfs import clock_of
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.runs.claims import finished, last_claim
from orchestrator.runs.requests import requests_of
from orchestrator.runs.stall import modified
from orchestrator.slurm.commands import call
from orchestrator.slurm.jobs import SubmittedTasks, query_or_raise, read_submitted_tasks
from orchestrator.slurm.queue import TaskRow
from orchestrator.slurm.states import is_active, is_waiting

_MAX_IDS_PER_CALL = 500
"""Task ids in one call of scancel: the length of a command line is limited."""


@dataclass(frozen=True, slots=True)
class CancelledTasks:
    """What was done about the tasks of cancelled runs."""

    ended: tuple[str, ...] = ()
    """Ids of the tasks that were cancelled with scancel."""
    stopping: dict[str, float] = field(default_factory=dict)
    """Running task -> seconds that its runs have to write a checkpoint and stop."""
    hidden: dict[str, str] = field(default_factory=dict)
    """Task -> why SLURM does not show it here: it cannot be cancelled from here."""


def cancel_tasks(output: Path, run_ids: Sequence[str], *, kill: bool = False) -> CancelledTasks:
    """Cancel the tasks whose unfinished runs are all among `run_ids`, which have a request already.

    Waiting tasks are cancelled with scancel. A running one reads the requests in the folders of
    its runs and stops after their checkpoints, for which scancel would leave it only KillWait
    seconds; with `kill`, or once the grace time after the request is over, it is cancelled too.
    A task that has other unfinished runs is left alone. SchedulerError: SLURM gives no answer.
    """
    paths = SweepPaths(output)
    if not paths.submissions.is_dir():
        return CancelledTasks()
    runs = {run.run_id: run for run in read_sweep(paths.sweep).runs}
    done = {id_ for id_, run in runs.items() if finished(paths.run(run.path), run.config_hash)}
    wanted = set(run_ids)
    submitted = read_submitted_tasks(output, wanted - done)
    tasks = {
        task: [runs[run_id] for run_id in open_runs]
        for task, ids in submitted.runs_of.items()
        if (open_runs := runs.keys() & set(ids) - done) and open_runs <= wanted
    }
    queue = query_or_raise(submitted, tasks)
    rows = queue.rows
    stopping = {} if kill else _stopping(output, submitted, tasks, rows)
    ended = [task for task in tasks if is_active(rows.get(task)) and task not in stopping]
    for start in range(0, len(ended), _MAX_IDS_PER_CALL):
        # Without --state=PENDING: with it scancel cancels all waiting tasks of the array.
        call(["scancel", *ended[start : start + _MAX_IDS_PER_CALL]])
    return CancelledTasks(tuple(ended), stopping, dict(queue.hidden))


def _stopping(
    output: Path,
    submitted: SubmittedTasks,
    tasks: dict[str, list[Run]],
    rows: dict[str, TaskRow],
) -> dict[str, float]:
    """The running tasks that still have time, and how many seconds."""
    running = [
        task for task in tasks if is_active(row := rows.get(task)) and row and not is_waiting(row)
    ]
    now = None
    if running:
        with suppress(StorageError):
            now = clock_of(output)
    found = {}
    for task in running:
        paths = [SweepPaths(output).run(run.path) for run in tasks[task]]
        grace_s, age_s = submitted.graces_s[task] + _reaction_s(paths), _age_s(paths, now)
        if age_s < grace_s:
            found[task] = grace_s - age_s
    return found


def _reaction_s(runs: Iterable[RunPaths]) -> float:
    """Seconds for the heartbeat that reads the request, and for the end of the processes."""
    claims = (last_claim(paths) for paths in runs)
    return max((claim.expiry_s for claim in claims if claim), default=EXPIRY_S) / 2


def _age_s(runs: Iterable[RunPaths], now: float | None) -> float:
    """Seconds since the youngest of the requests that cancelled `runs`; 0 where not known.

    `now` is the time by the clock of the file system, which dates the requests too.
    """
    if now is None:
        return 0.0
    return min((now - (_requested_at(paths) or now) for paths in runs), default=0.0)


def _requested_at(paths: RunPaths) -> float | None:
    """When the run was cancelled, by the clock of the file system: the first request counts.

    To give `cancel` again must not give a hanging task more time.
    """
    first = None
    for request in requests_of(paths):
        if request.action is not RequestAction.CANCEL:
            break
        first = request
    return None if first is None else modified(paths.request(first.number), paths.disk)
