"""Inside a SLURM task: which runs are its own, and when it must be queued again."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from merge.errors import SchedulerError, UsageError
from merge.records.records import Cause
from merge.records.sweep import Run
from merge.storage.paths import SweepPaths
from orchestrator.local.events import LocalReport, RunOutcome
from orchestrator.runs.claims import finished, last_claim
from orchestrator.slurm.commands import call
from orchestrator.slurm.queue import TaskRow, task_row
from orchestrator.slurm.record import read_submission

_log = logging.getLogger(__name__)

_MOST_RESTARTS = 500
"""A task that is queued again more often makes no progress: its limit is below a checkpoint's."""

_REQUEUE_TRIES = 5
_LEFT_TRIES = 3
_PAUSE_S = 2.0
_MOST_EARLY_S = 60.0
"""SLURM's clock for limits goes by minutes."""
_OPEN = (RunOutcome.INTERRUPTED, RunOutcome.NOT_STARTED, RunOutcome.ELSEWHERE)


@dataclass(slots=True)
class StopAsked:
    """Whether SLURM has asked this task to stop."""

    is_set: bool = False


@contextmanager
def scheduler_signals() -> Iterator[StopAsked]:
    """Note SIGTERM and SIGUSR2 from now on, also while no run is at work: they must not kill.

    SLURM sends SIGUSR2 to every process of a step. It is blocked here, before any other thread or
    process is started, and so in all of them: torchrun and trainers that know nothing of it live
    on, until the executor asks them to stop. Here a thread takes it for a SIGTERM.
    """
    asked = StopAsked()

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        asked.is_set = True

    before = signal.signal(signal.SIGTERM, note)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    threading.Thread(target=_translate, daemon=True, name="scheduler-signals").start()
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def _translate() -> None:
    while True:
        signal.sigwait({signal.SIGUSR2})
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def task_runs(
    output: Path, submission: str, array: str, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """Ids of the runs of the task that `environment` describes. UsageError outside of a task."""
    index = environment.get("SLURM_ARRAY_TASK_ID", "")
    if not index.isdecimal() or "SLURM_ARRAY_JOB_ID" not in environment:
        raise UsageError(
            "SLURM_ARRAY_JOB_ID and SLURM_ARRAY_TASK_ID are not set: --submission is for tasks of "
            "a job array; name runs with --run or --runs"
        )
    for one in read_submission(output, submission).arrays:
        if one.name == array and int(index) < len(one.tasks):
            return one.tasks[int(index)]
    raise UsageError(f"submission {submission} has no task {index} in {array}: submit again")


def work_until_settled(
    work: Callable[[], LocalReport],
    output: Path,
    runs: Sequence[Run],
    asked: StopAsked,
    expiry_s: float,
) -> LocalReport:
    """Call `work` until its runs are done, failed, or truly at work elsewhere.

    After a node's failure SLURM starts the task anew while the dead node's claims still look
    alive: they are waited for, up to `expiry_s` without a sign of life, then worked on.
    """
    while True:
        report = work()
        elsewhere = {ending.run.run_id for ending in report.having(RunOutcome.ELSEWHERE)}
        claimed = [run for run in runs if run.run_id in elsewhere]
        if report.was_stopped or asked.is_set or not claimed:
            return report
        if not _some_is_free(output, claimed, asked, expiry_s):
            return report


def queue_again(report: LocalReport, asked: StopAsked, environment: Mapping[str, str]) -> bool:
    """Queue this task again where SLURM asked it to stop with work left; whether that was done.

    Only while SLURM takes it for running: a task that a person cancelled stays cancelled, and one
    that is pre-empted by being queued again needs no help.
    """
    was_asked = report.was_stopped or asked.is_set
    if not was_asked or not report.having(*_OPEN):
        return False
    if (restarts := _num_restarts(environment)) >= _MOST_RESTARTS:
        _log.error("queued again %d times already: not once more", restarts)
        return False
    job = _own_id(environment)
    for _ in range(_REQUEUE_TRIES):
        try:
            row = task_row(job)
            if row is None or row.state != "RUNNING":
                return False
            call(["scontrol", "requeue", job])
        except SchedulerError as error:
            _log.warning("could not be queued again: %s; it is tried again", error)
            time.sleep(_PAUSE_S)
        else:
            return True
    _log.error("SLURM did not queue task %s again: submit again to go on", job)
    return False


def why_stopped(cause: Cause, environment: Mapping[str, str], signal_s: float) -> Cause:
    """What SLURM says is behind a signal that looks like `cause`; `cause` where it says nothing.

    SLURM calls a task that it ends COMPLETING, whatever ends it. One that was cancelled is told
    from others by what it is not: queued again, pre-empted, or ended by its time. One that goes on
    within `signal_s`, and what SLURM may be early, of its end was told of that end.
    """
    if cause is Cause.INTERRUPTED:
        return cause
    try:
        row = _row_with_time_left(_own_id(environment))
    except (SchedulerError, UsageError) as error:
        _log.warning("why the task is to stop is not known: %s", error)
        return cause
    if row is None or row.was_preempted:
        return cause
    if row.state == "RUNNING" and row.left_s <= signal_s + _MOST_EARLY_S:
        return Cause.TIME_LIMIT
    is_ending = row.state in ("COMPLETING", "CANCELLED") and not row.reason
    is_last = row.restarts == _num_restarts(environment)
    return Cause.CANCELLED if is_ending and is_last else cause


def _row_with_time_left(task: str) -> TaskRow | None:
    """What squeue tells of a task that is at work; asked again where it lacks what it must have."""
    for _ in range(_LEFT_TRIES):
        row = task_row(task)
        if row is not None and not (row.state == "RUNNING" and math.isnan(row.left_s)):
            break
        time.sleep(_PAUSE_S / 2)
    return row


def _own_id(environment: Mapping[str, str]) -> str:
    # Never the raw id: that of one task is the id of the whole array too.
    return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"


def _num_restarts(environment: Mapping[str, str]) -> int:
    return int(environment.get("SLURM_RESTART_COUNT") or 0)


def _some_is_free(output: Path, runs: Sequence[Run], asked: StopAsked, expiry_s: float) -> bool:
    """Wait until a claimed run is finished or released, or silent for `expiry_s`: then True.

    False where all their owners gave signs of life meanwhile: they are alive.
    """
    first = {run.run_id: _sign(output, run) for run in runs}
    deadline = time.monotonic() + expiry_s + 1.0
    while time.monotonic() < deadline and not asked.is_set:
        signs = {run.run_id: _sign(output, run) for run in runs}
        if None in signs.values():
            return True
        if all(signs[name] != first[name] for name in signs):
            return False
        time.sleep(_PAUSE_S / 2)
    return not asked.is_set


def _sign(output: Path, run: Run) -> tuple[int, float] | None:
    """The claim and its last sign of life; None where nobody has the run."""
    paths = SweepPaths(output).run(run.path)
    claim = last_claim(paths)
    if claim is None or claim.released or finished(paths, run.config_hash):
        return None
    return claim.number, claim.heartbeat
