"""Which runs are in which SLURM tasks, and the state of these: for status, submit and cancel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import SchedulerError, UsageError
from merge.records.sweep import Run
from orchestrator.runs.states import RunState, State
from orchestrator.slurm.queue import Queue, TaskRow, jobs_of_scripts, query_queue
from orchestrator.slurm.record import ArrayRecord, SubmissionRecord, read_submissions
from orchestrator.slurm.request import DEFAULT_GRACE_S
from orchestrator.slurm.states import is_active, is_over, newest_task, with_queue
from orchestrator.slurm.task_ends import with_ends
from orchestrator.slurm.visibility import Sender, hidden_tasks, why_not_listed


@dataclass(frozen=True, slots=True)
class SubmittedTasks:
    """The tasks of all submissions of an output folder."""

    runs_of: dict[str, tuple[str, ...]]
    """Task id -> the ids of its runs."""
    scripts: dict[str, tuple[str, str]]
    """Task id -> id of the submission and name of the array, as in the path of its script."""
    senders: dict[str, Sender]
    """Task id -> who submitted it, and to which cluster."""
    graces_s: dict[str, float]
    """Task id -> seconds that its runs have for a checkpoint when they are asked to stop."""
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
        users = _users_to_query(submissions, set(run_ids))
        for user in users:
            for script, job in jobs_of_scripts(user).items():
                jobs[_submission_and_array(script)] = job
        problem = why_not_listed(users)
    except (SchedulerError, UsageError) as error:
        problem = str(error)
    found = SubmittedTasks({}, {}, {}, {}, problem)
    for submission in submissions:
        sender = Sender(submission.by, submission.cluster)
        for task, array, runs in _tasks(_with_ids(submission, jobs), named=not problem):
            found.runs_of[task], found.scripts[task] = runs, (submission.id, array.name)
            found.senders[task], found.graces_s[task] = sender, array.grace_s or DEFAULT_GRACE_S
    return found


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
    queue = query(submitted, open_tasks)
    found = [
        with_queue(state, tasks.get(run.run_id, ()), queue)
        for run, state in zip(runs, states, strict=True)
    ]
    rows = [queue.rows.get(newest_task(tasks.get(run.run_id, ("",)), queue)) for run in runs]
    return with_ends(output, submitted.scripts, rows, states, found)


def may_be_queued(
    output: Path, run_ids: Iterable[str]
) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """The runs that an active task has, and those whose task SLURM would not show here.

    Run id -> id of the task; run id -> id of the task, and why it is not shown. SchedulerError
    where SLURM gives no answer.
    """
    wanted = set(run_ids)
    submitted = read_submitted_tasks(output, wanted)
    tasks = {task: runs for task, runs in submitted.runs_of.items() if wanted & set(runs)}
    queue = query_or_raise(submitted, tasks)
    queued, hidden = {}, {}
    for task, runs in tasks.items():
        for run_id in wanted.intersection(runs):
            if is_active(queue.rows.get(task)):
                queued[run_id] = task
            elif task in queue.hidden:
                hidden[run_id] = (task, queue.hidden[task])
    return queued, {run_id: why for run_id, why in hidden.items() if run_id not in queued}


def query(submitted: SubmittedTasks, tasks: Iterable[str]) -> Queue:
    """What SLURM reports about `tasks`, and which of them it would not show here.

    Rows of foreign jobs are left out: job ids start again at 1 on a cluster that was set up anew,
    and another cluster has jobs with the same ids.
    """
    if submitted.problem:
        return Queue(rows={}, problem=submitted.problem)
    wanted = list(tasks)
    queue = query_queue(wanted)
    if queue.problem:
        return queue
    rows = {task: row for task, row in queue.rows.items() if _is_own(row, task, submitted)}
    absent = [
        task
        for task in wanted
        if task not in rows or (rows[task].is_history and not is_over(rows[task]))
    ]
    hidden = hidden_tasks({task: submitted.senders[task] for task in absent})
    # What the history says of such a task may be old: SLURM may have started it again.
    rows = {task: row for task, row in rows.items() if task not in hidden}
    return Queue(rows=rows, hidden=hidden)


def _is_own(row: TaskRow, task: str, submitted: SubmittedTasks) -> bool:
    if row.is_history:
        sender = submitted.senders.get(task)
        return not (sender and sender.cluster and row.cluster and row.cluster != sender.cluster)
    return not row.script or _submission_and_array(row.script) == submitted.scripts.get(task)


def query_or_raise(submitted: SubmittedTasks, tasks: Mapping[str, object]) -> Queue:
    """As `query`. SchedulerError where SLURM gives no answer."""
    if not tasks:
        return Queue(rows={})
    queue = query(submitted, tasks)
    if queue.problem:
        raise SchedulerError(
            f"{queue.problem}: which tasks SLURM still has is unknown; try again later"
        )
    return queue


def _tasks(
    submission: SubmissionRecord, *, named: bool
) -> Iterable[tuple[str, ArrayRecord, tuple[str, ...]]]:
    """Id, array and runs of each task; with `named=False` also those without a job id."""
    for array in submission.arrays:
        for index, runs in enumerate(array.tasks):
            if array.job_id is not None:
                yield array.task_id(index), array, runs
            elif not named:
                yield f"task {index} of {submission.id}/{array.name}", array, runs
