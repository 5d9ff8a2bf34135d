"""Which runs are in which SLURM tasks, and what becomes of them: for status, submit and cancel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import SchedulerError, UsageError
from merge.records.sweep import Run, read_sweep
from merge.storage.paths import SweepPaths
from orchestrator.runs.claims import finished
from orchestrator.runs.states import RunState, State
from orchestrator.slurm.commands import call
from orchestrator.slurm.queue import Queue, ask, jobs_of_scripts
from orchestrator.slurm.record import SentArray, Submission, read_submissions
from orchestrator.slurm.states import is_active, with_queue

_MOST_AT_ONCE = 500
"""Ids in one call of scancel: a command line is not endless."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The tasks of all submissions of an output folder."""

    runs_of: Mapping[str, tuple[str, ...]]
    """Task id -> the ids of its runs."""
    scripts: Mapping[str, tuple[str, str]]
    """Task id -> the submission and the array's name, as its script's path tells them."""
    problem: str = ""
    """Why SLURM could not say whether it has an array of which nobody wrote the id down; then
    such tasks stand in `runs_of` under a name that SLURM does not know."""


def read_sent(output: Path, run_ids: Iterable[str]) -> Sent:
    """What was sent to SLURM from `output`. RecordError where a submission cannot be read.

    A sender may have died between SLURM's acceptance of an array and its own record of it: where
    some of `run_ids` may be in such an array, it is looked for in the queue, by its script.
    """
    submissions = read_submissions(output)
    jobs: dict[tuple[str, str], str] = {}
    problem = ""
    try:
        for user in _users_to_ask(submissions, set(run_ids)):
            for script, job in jobs_of_scripts(user).items():
                jobs[_told_by(script)] = job
    except (SchedulerError, UsageError) as error:
        problem = str(error)
    runs_of, scripts = {}, {}
    for one in submissions:
        for task, array, runs in _tasks(_with_ids(one, jobs), named=not problem):
            runs_of[task], scripts[task] = runs, (one.id, array)
    return Sent(runs_of, scripts, problem)


def _told_by(script: str) -> tuple[str, str]:
    """The submission, whose name is unique, and the array that a script is of.

    What lies above it may be the path of another mount.
    """
    return Path(script).parent.name, Path(script).stem


def _users_to_ask(submissions: Sequence[Submission], run_ids: Set[str]) -> list[str]:
    """Whose queue may hold an unrecorded array with one of `run_ids`.

    A run that was sent again later is in none: it is sent only where the queue had it not.
    """
    users = []
    later: set[str] = set()
    for one in reversed(submissions):
        if any(_runs(array) & run_ids - later for array in one.arrays if array.job_id is None):
            users.append(one.by)
        later |= {run for array in one.arrays if array.job_id is not None for run in _runs(array)}
    return list(dict.fromkeys(users))


def _runs(array: SentArray) -> set[str]:
    return {run_id for task in array.tasks for run_id in task}


def _with_ids(submission: Submission, jobs: Mapping[tuple[str, str], str]) -> Submission:
    arrays = (
        replace(array, job_id=array.job_id or jobs.get((submission.id, array.name)))
        for array in submission.arrays
    )
    return replace(submission, arrays=tuple(arrays))


def scheduled_states(
    output: Path, runs: Sequence[Run], states: Sequence[RunState]
) -> list[RunState]:
    """`states` of `runs`, completed by SLURM's word where some were sent to it.

    Starts no process where nothing was sent, or all that was is done.
    """
    is_open = {
        run.run_id: state.state is not State.DONE for run, state in zip(runs, states, strict=True)
    }
    sent = read_sent(output, [run_id for run_id in is_open if is_open[run_id]])
    tasks: dict[str, list[str]] = {}
    for task, ids in sent.runs_of.items():
        for run_id in ids:
            tasks.setdefault(run_id, []).append(task)
    open_tasks = [task for run_id, found in tasks.items() if is_open.get(run_id) for task in found]
    if not open_tasks:
        return list(states)
    queue = _ask(sent, open_tasks)
    return [
        with_queue(state, tasks.get(run.run_id, ()), queue)
        for run, state in zip(runs, states, strict=True)
    ]


def queued_runs(output: Path, run_ids: Iterable[str]) -> dict[str, str]:
    """Of `run_ids` those that a task of SLURM's still has, with that task.

    SchedulerError where SLURM tells nothing: to submit then might do work twice.
    """
    wanted = set(run_ids)
    sent = read_sent(output, wanted)
    tasks = {task: runs for task, runs in sent.runs_of.items() if wanted & set(runs)}
    queue = _heard(sent, tasks)
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
    paths = SweepPaths(output)
    if not paths.submissions.is_dir():
        return []
    runs = read_sweep(paths.sweep).runs
    done = {run.run_id for run in runs if finished(paths.run(run.path), run.config_hash)}
    wanted = set(run_ids)
    sent = read_sent(output, wanted - done)
    tasks = {
        task: open_runs
        for task, ids in sent.runs_of.items()
        if (open_runs := set(ids) - done) and open_runs <= wanted
    }
    queue = _heard(sent, tasks)
    active = [task for task in tasks if is_active(queue.rows.get(task))]
    for start in range(0, len(active), _MOST_AT_ONCE):
        call(["scancel", *active[start : start + _MOST_AT_ONCE]])
    return active


def _ask(sent: Sent, tasks: Iterable[str]) -> Queue:
    """What SLURM says of `tasks`; of another job that has got the id of one it says nothing."""
    if sent.problem:
        return Queue(rows={}, problem=sent.problem)
    queue = ask(tasks)
    rows = {
        task: row
        for task, row in queue.rows.items()
        if not row.script or _told_by(row.script) == sent.scripts.get(task)
    }
    return replace(queue, rows=rows)


def _heard(sent: Sent, tasks: Mapping[str, object]) -> Queue:
    if not tasks:
        return Queue(rows={})
    queue = _ask(sent, tasks)
    if queue.problem:
        raise SchedulerError(f"{queue.problem}: what SLURM still has is unknown; try again later")
    return queue


def _tasks(submission: Submission, *, named: bool) -> Iterable[tuple[str, str, tuple[str, ...]]]:
    """Each task's id, array, runs; unless only `named` ones count, also those without an id."""
    for array in submission.arrays:
        for index, runs in enumerate(array.tasks):
            if array.job_id is not None:
                yield array.task_id(index), array.name, runs
            elif not named:
                yield f"task {index} of {submission.id}/{array.name}", array.name, runs
