"""What SLURM reports about tasks: squeue first, sacct for those that have left the queue.

squeue shows the present. sacct lags by seconds, fails on clusters without accounting, and shows
NODE_FAIL for a task that SLURM has already queued again: so it is queried last and counts least.
Only sacct knows that a task failed because it ran out of memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from merge.errors import SchedulerError, UsageError
from orchestrator.slurm.commands import QUERY_TIMEOUT_S, call

# `FIELD:|,` sets a delimiter instead of squeue's fixed width of 20 characters, which cuts values
# off. Reasons hold spaces and commas. The script comes last: only its path may hold a `|`.
_COLUMNS = (
    "JobArrayID:|,State:|,Reason:|,NodeList:|,RestartCnt:|,PreemptTime:|,TimeLeft:|,exit_code:|,"
    "Command:"
)
_NUM_COLUMNS = 9
_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_ARRAY_ID = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
_TASK_ID = re.compile(r"\d+(_\d+)?")
_FAILED, _OUT_OF_MEMORY = "FAILED", "OUT_OF_MEMORY"
_TIME = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")
_HISTORY_COLUMNS = "JobID,State,NodeList,ExitCode,Cluster"
_EXIT = re.compile(r"(\d+):(\d+)")
_NO_SUCH_JOB = "Invalid job id specified"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task, as SLURM reports it now."""

    id: str
    """12_3."""
    state: str
    """PENDING, RUNNING, CANCELLED, ... without what SLURM may append (`by 1000`)."""
    reason: str = ""
    nodes: str = ""
    restarts: int = 0
    was_preempted: bool = False
    left_s: float = math.inf
    """Seconds until its time limit; NaN where SLURM does not report them."""
    exit_code: int = 0
    """As a shell counts: 128 + N for death by signal N."""
    script: str = ""
    """Path of its batch script; empty where squeue shows none."""
    is_history: bool = False
    """From sacct: the task is no longer in the queue."""
    cluster: str = ""
    """Of a row from sacct: which cluster's history it is from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The tasks of some jobs at one moment."""

    rows: dict[str, TaskRow]
    """By task id."""
    problem: str = ""
    """Why squeue gave no answer; then an absent row means nothing."""
    hidden: Mapping[str, str] = field(default_factory=dict)
    """Task -> why squeue here would not show it: its absence does not mean that it has ended."""


def query_queue(tasks: Iterable[str], timeout_s: float = QUERY_TIMEOUT_S) -> Queue:
    """The tasks of all jobs that `tasks` (12_3) belong to, from squeue and then from sacct."""
    wanted = list(dict.fromkeys(tasks))
    try:
        found = {row.id: row for row in parse_squeue(_squeue(_jobs(wanted), timeout_s))}
    except (SchedulerError, UsageError) as error:
        return Queue(rows={}, problem=str(error))
    rows = {**found, **_unlisted(wanted, found)}
    # In the queue a task that ran out of memory is just FAILED: its steps are only in sacct.
    incomplete = [task for task in wanted if task not in rows or rows[task].state == _FAILED]
    for row in parse_sacct(_sacct(_jobs(incomplete), timeout_s)) if incomplete else ():
        if row.id not in rows or row.state == _OUT_OF_MEMORY:
            rows[row.id] = row
    return Queue(rows=rows)


def _unlisted(wanted: Iterable[str], found: Mapping[str, TaskRow]) -> dict[str, TaskRow]:
    """Rows of the tasks of an array that were cancelled together while they waited.

    squeue then has one row for all of them, which has the id of the array: `12|CANCELLED`.
    """
    rows = {}
    for task in wanted:
        row = found.get(_job_of(task))
        if task not in found and row is not None:
            rows[task] = replace(row, id=task)
    return rows


def task_row(task: str, timeout_s: float = QUERY_TIMEOUT_S) -> TaskRow | None:
    """The task as squeue reports it; None where it has left the queue. Errors as of `call`."""
    rows = {row.id: row for row in parse_squeue(_squeue(task, timeout_s))}
    return rows.get(task)


def jobs_of_scripts(user: str, timeout_s: float = QUERY_TIMEOUT_S) -> dict[str, str]:
    """Ids of all jobs of `user` in squeue, by the path of their script. Errors as of `call`."""
    words = ["squeue", "--all", "--noheader", "--states=all", f"--user={user}"]
    output = call([*words, "--Format=JobArrayID:|,Command:"], timeout_s=timeout_s)
    rows = (line.partition("|") for line in output.splitlines())
    return {script: _job_of(name) for name, _, script in rows if _job_of(name).isdecimal()}


def parse_squeue(text: str) -> Iterator[TaskRow]:
    """Rows of `ID|STATE|REASON|NODES|RESTARTS|PREEMPTED|LEFT|EXIT|SCRIPT`: see `_COLUMNS`."""
    for line in text.splitlines():
        # Errors and warnings stand between the rows; they have another number of columns.
        fields = line.split("|", _NUM_COLUMNS - 1)
        if len(fields) != _NUM_COLUMNS or not fields[1]:
            continue
        name, state, reason, nodes, restarts, preempted, left, status, script = (
            field.strip() for field in fields
        )
        for task in expand_ids(name):
            yield TaskRow(
                id=task,
                state=state.split()[0],
                reason="" if reason == "None" else reason,
                nodes=nodes,
                restarts=int(restarts) if restarts.isdecimal() else 0,
                was_preempted=preempted not in ("", "N/A"),
                left_s=_seconds(left),
                exit_code=_exit_code(int(status) if status.isdecimal() else 0),
                script=script,
            )


def parse_sacct(text: str) -> Iterator[TaskRow]:
    """Rows of `sacct --parsable2 --noheader` with `_HISTORY_COLUMNS`, one per task.

    Where the kernel killed a process because memory ran out, the job row only says FAILED; the row
    of its step (`12_3.0`) says OUT_OF_MEMORY.
    """
    rows: dict[str, TaskRow] = {}
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) < 3 or not fields[1]:
            continue
        name, is_step, _ = fields[0].partition(".")
        state = fields[1].split()[0]
        for task in expand_ids(name):
            if not is_step:
                rows[task] = _history_row(task, state, fields)
            elif state == _OUT_OF_MEMORY and task in rows and rows[task].state == _FAILED:
                rows[task] = replace(rows[task], state=state)
    yield from rows.values()


def _history_row(task: str, state: str, fields: list[str]) -> TaskRow:
    exit_code = 0
    if len(fields) > 3 and (match := _EXIT.fullmatch(fields[3].strip())):
        exit_code = _exit_code((int(match[1]) << 8) + int(match[2]))
    return TaskRow(
        id=task,
        state=state,
        nodes=fields[2].strip(),
        exit_code=exit_code,
        is_history=True,
        cluster=fields[4].strip() if len(fields) > 4 else "",
    )


def _exit_code(status: int) -> int:
    """An exit code as a shell counts, from the status that wait() gives, as squeue prints it."""
    number = status & 0x7F
    return 128 + number if number else status >> 8


def expand_ids(name: str) -> list[str]:
    """The tasks of `12_[0-2,5%4]`; an empty list for text that is not an id."""
    if _TASK_ID.fullmatch(name):
        return [name]
    match = _ARRAY_ID.fullmatch(name)
    if match is None:
        return []
    tasks: list[str] = []
    for part in match[2].split(","):
        if bounds := _RANGE.fullmatch(part):
            first, last, step = int(bounds[1]), int(bounds[2] or bounds[1]), int(bounds[3] or 1)
            tasks += [f"{match[1]}_{index}" for index in range(first, last + 1, step)]
    return tasks


def _seconds(time: str) -> float:
    """`1-02:03:04`, `2:03:04` or `3:04` in seconds; NaN for NOT_SET or INVALID."""
    if time == "UNLIMITED":
        return math.inf
    if (match := _TIME.fullmatch(time)) is None:
        return math.nan
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _jobs(tasks: Iterable[str]) -> str:
    return ",".join(dict.fromkeys(_job_of(task) for task in tasks))


def _job_of(task: str) -> str:
    return task.partition("_")[0]


def _squeue(jobs: str, timeout_s: float) -> str:
    # --states=all also shows tasks that ended within MinJobAge (300 s): without accounting that is
    # the only trace of how they ended.
    # --all: also those in hidden partitions.
    words = ["squeue", "--all", "--noheader", "--array", "--states=all", f"--jobs={jobs}"]
    try:
        return call([*words, f"--Format={_COLUMNS}"], timeout_s=timeout_s)
    except SchedulerError as error:
        # Only for a single unknown job is this an error; from several squeue skips unknown ones.
        if _NO_SUCH_JOB in str(error):
            return ""
        raise


def _sacct(jobs: str, timeout_s: float) -> str:
    words = ["sacct", "--parsable2", "--noheader", f"--format={_HISTORY_COLUMNS}"]
    try:
        return call([*words, f"--jobs={jobs}"], timeout_s=timeout_s)
    except (SchedulerError, UsageError):
        # Without accounting there is no history: the absence from the queue has to be enough.
        return ""
