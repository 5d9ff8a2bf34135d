"""Which runs are in which SLURM tasks, and what becomes of them: for status, submit and cancel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.errors import SchedulerError
from merge.paths import SweepPaths
from merge.sweep import Run, read_sweep
from orchestrator.claims import finished
from orchestrator.slurm_commands import call
from orchestrator.slurm_queue import Queue, ask
from orchestrator.slurm_record import Submission, read_submissions
from orchestrator.slurm_states import is_active, with_queue
from orchestrator.states import RunState, State

_MOST_AT_ONCE = 500
"""Ids in one call of scancel: a command line is not endless."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The tasks of all submissions of an output folder."""

    runs_of: Mapping[str, tuple[str, ...]]
    """Task id -> the ids of its runs."""


def read_sent(output: Path) -> Sent:
    """What was sent to SLURM from `output`. RecordError where a submission cannot be read."""
    return Sent({task: runs for one in read_submissions(output) for task, runs in _tasks(one)})


def scheduled_states(
    output: Path, runs: Sequence[Run], states: Sequence[RunState]
) -> list[RunState]:
    """`states` of `runs`, completed by SLURM's word where some were sent to it.

    Starts no process where nothing was sent, or all that was is done.
    """
    tasks: dict[str, list[str]] = {}
    for task, ids in read_sent(output).runs_of.items():
        for run_id in ids:
            tasks.setdefault(run_id, []).append(task)
    open_tasks = [
        task
        for run, state in zip(runs, states, strict=True)
        if state.state is not State.DONE
        for task in tasks.get(run.run_id, ())
    ]
    if not open_tasks:
        return list(states)
    queue = ask(open_tasks)
    return [
        with_queue(state, tasks.get(run.run_id, ()), queue)
        for run, state in zip(runs, states, strict=True)
    ]


def queued_runs(output: Path, run_ids: Iterable[str]) -> dict[str, str]:
    """Of `run_ids` those that a task of SLURM's still has, with that task.

    SchedulerError where SLURM tells nothing: to submit then might do work twice.
    """
    sent = read_sent(output)
    wanted = set(run_ids)
    tasks = {task: runs for task, runs in sent.runs_of.items() if wanted & set(runs)}
    queue = _heard(tasks)
    return {
        run_id: task
        for task, runs in tasks.items()
        if is_active(queue.rows.get(task))
        for run_id in runs
        if run_id in wanted
    }


def cancel_jobs(output: Path, run_ids: Sequence[str]) -> list[str]:
    """Have SLURM cancel the tasks all of whose unfinished runs are among `run_ids`.

    Returns the tasks (12_3) that were cancelled, waiting or at work; a task
    that also has other runs to do is left alone. SchedulerError where SLURM gives no answer.
    """
    sent, wanted = read_sent(output), set(run_ids)
    if not sent.runs_of:
        return []
    paths = SweepPaths(output)
    runs = read_sweep(paths.sweep).runs
    done = {run.run_id for run in runs if finished(paths.run(run.path), run.config_hash)}
    tasks = {
        task: open_runs
        for task, ids in sent.runs_of.items()
        if (open_runs := set(ids) - done) and open_runs <= wanted
    }
    queue = _heard(tasks)
    active = [task for task in tasks if is_active(queue.rows.get(task))]
    for start in range(0, len(active), _MOST_AT_ONCE):
        call(["scancel", *active[start : start + _MOST_AT_ONCE]])
    return active


def _heard(tasks: Mapping[str, object]) -> Queue:
    if not tasks:
        return Queue(rows={})
    queue = ask(tasks)
    if queue.problem:
        raise SchedulerError(f"{queue.problem}: what SLURM still has is unknown; try again later")
    return queue


def _tasks(submission: Submission) -> Iterable[tuple[str, tuple[str, ...]]]:
    for array in submission.arrays:
        if array.job_id is not None:
            for index, runs in enumerate(array.tasks):
                yield array.task_id(index), runs
