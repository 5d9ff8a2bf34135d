"""Which runs are in which SLURM tasks, and the state of these: for status, submit and cancel."""

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
from orchestrator.slurm.queue import Queue, jobs_of_scripts, query_queue
from orchestrator.slurm.record import ArrayRecord, SubmissionRecord, read_submissions
from orchestrator.slurm.states import is_active, with_queue

_MAX_IDS_PER_CALL = 500
"""Task ids in one call of scancel: the length of a command line is limited."""


@dataclass(frozen=True, slots=True)
class SubmittedTasks:
    """The tasks of all submissions of an output folder."""

    runs_of: Mapping[str, tuple[str, ...]]
    """Task id -> the ids of its runs."""
    scripts: Mapping[str, tuple[str, str]]
    """Task id -> id of the submission and name of the array, as in the path of its script."""
    problem: str = ""
    """Why SLURM could not say whether it has an array without a recorded id; tasks of such an array
    are in `runs_of` under a name that SLURM does not know."""


def read_submitted_tasks(output: Path, run_ids: Iterable[str]) -> SubmittedTasks:
    """All tasks that were submitted from `output`. RecordError where a submission is unreadable.

    `submit` may have died after SLURM accepted an array and before it recorded the job id. Where
    such an array may hold some of `run_ids`, the queue is searched for the path of its script.
    """
    submissions = read_submissions(output)
    jobs: dict[tuple[str, str], str] = {}
    problem = ""
    try:
        for user in _users_to_query(submissions, set(run_ids)):
            for script, job in jobs_of_scripts(user).items():
                jobs[_submission_and_array(script)] = job
    except (SchedulerError, UsageError) as error:
        problem = str(error)
    runs_of, scripts = {}, {}
    for submission in submissions:
        for task, array, runs in _tasks(_with_ids(submission, jobs), named=not problem):
            runs_of[task], scripts[task] = runs, (submission.id, array)
    return SubmittedTasks(runs_of, scripts, problem)


def _submission_and_array(script: str) -> tuple[str, str]:
    """Id of the submission and name of the array of a batch script.

    The folders above are ignored: the same folder may be mounted under another path.
    """
    return Path(script).parent.name, Path(script).stem


def _users_to_query(submissions: Sequence[SubmissionRecord], run_ids: Set[str]) -> list[str]:
    """The users whose queue may hold an array without a recorded id and with one of `run_ids`.

    A run that was submitted again later is in no such array: `submit` first searched the queue.
    """
    users = []
    later: set[str] = set()
    for submission in reversed(submissions):
        if any(
            _runs(array) & run_ids - later for array in submission.arrays if array.job_id is None
        ):
            users.append(submission.by)
        later |= {
            run for array in submission.arrays if array.job_id is not None for run in _runs(array)
        }
    return list(dict.fromkeys(users))


def _runs(array: ArrayRecord) -> set[str]:
    return {run_id for task in array.tasks for run_id in task}


def _with_ids(
    submission: SubmissionRecord, jobs: Mapping[tuple[str, str], str]
) -> SubmissionRecord:
    arrays = (
        replace(array, job_id=array.job_id or jobs.get((submission.id, array.name)))
        for array in submission.arrays
    )
    return replace(submission, arrays=tuple(arrays))


def scheduled_states(
    output: Path, runs: Sequence[Run], states: Sequence[RunState]
) -> list[RunState]:
    """`states` of `runs`, completed by what SLURM reports about submitted ones.

    Starts no process if no run was submitted, or all submitted runs are done.
    """
    is_open = {
        run.run_id: state.state is not State.DONE for run, state in zip(runs, states, strict=True)
    }
    submitted = read_submitted_tasks(output, [run_id for run_id in is_open if is_open[run_id]])
    tasks: dict[str, list[str]] = {}
    for task, ids in submitted.runs_of.items():
        for run_id in ids:
            tasks.setdefault(run_id, []).append(task)
    open_tasks = [task for run_id, found in tasks.items() if is_open.get(run_id) for task in found]
    if not open_tasks:
        return list(states)
    queue = _query(submitted, open_tasks)
    return [
        with_queue(state, tasks.get(run.run_id, ()), queue)
        for run, state in zip(runs, states, strict=True)
    ]


def queued_runs(output: Path, run_ids: Iterable[str]) -> dict[str, str]:
    """Those of `run_ids` that an active SLURM task still has, with the id of that task.

    SchedulerError where SLURM gives no answer: to submit then could run them twice.
    """
    wanted = set(run_ids)
    submitted = read_submitted_tasks(output, wanted)
    tasks = {task: runs for task, runs in submitted.runs_of.items() if wanted & set(runs)}
    queue = _query_or_raise(submitted, tasks)
    return {
        run_id: task
        for task, runs in tasks.items()
        if is_active(queue.rows.get(task))
        for run_id in runs
        if run_id in wanted
    }


def cancel_jobs(output: Path, run_ids: Sequence[str]) -> list[str]:
    """Cancel, with scancel, the tasks whose unfinished runs are all among `run_ids`.

    Returns the ids (12_3) of the cancelled tasks, pending or running. A task that has other
    unfinished runs too is not cancelled. SchedulerError where SLURM gives no answer.
    """
    paths = SweepPaths(output)
    if not paths.submissions.is_dir():
        return []
    runs = read_sweep(paths.sweep).runs
    done = {run.run_id for run in runs if finished(paths.run(run.path), run.config_hash)}
    wanted = set(run_ids)
    submitted = read_submitted_tasks(output, wanted - done)
    tasks = {
        task: open_runs
        for task, ids in submitted.runs_of.items()
        if (open_runs := set(ids) - done) and open_runs <= wanted
    }
    queue = _query_or_raise(submitted, tasks)
    active = [task for task in tasks if is_active(queue.rows.get(task))]
    for start in range(0, len(active), _MAX_IDS_PER_CALL):
        call(["scancel", *active[start : start + _MAX_IDS_PER_CALL]])
    return active


def _query(submitted: SubmittedTasks, tasks: Iterable[str]) -> Queue:
    """What SLURM reports about `tasks`.

    Rows of foreign jobs are left out: job ids start again at 1 on a cluster that was set up anew,
    and another cluster has jobs with the same ids.
    """
    if submitted.problem:
        return Queue(rows={}, problem=submitted.problem)
    queue = query_queue(tasks)
    rows = {
        task: row
        for task, row in queue.rows.items()
        if not row.script or _submission_and_array(row.script) == submitted.scripts.get(task)
    }
    return replace(queue, rows=rows)


def _query_or_raise(submitted: SubmittedTasks, tasks: Mapping[str, object]) -> Queue:
    if not tasks:
        return Queue(rows={})
    queue = _query(submitted, tasks)
    if queue.problem:
        raise SchedulerError(
            f"{queue.problem}: which tasks SLURM still has is unknown; try again later"
        )
    return queue


def _tasks(
    submission: SubmissionRecord, *, named: bool
) -> Iterable[tuple[str, str, tuple[str, ...]]]:
    """Id, array and runs of each task; with `named=False` also those without a job id."""
    for array in submission.arrays:
        for index, runs in enumerate(array.tasks):
            if array.job_id is not None:
                yield array.task_id(index), array.name, runs
            elif not named:
                yield f"task {index} of {submission.id}/{array.name}", array.name, runs
