"""Inside a SLURM task: its runs, the signals of SLURM, and when it must be requeued."""

from __future__ import annotations

import logging
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from merge.errors import SchedulerError, UsageError
from merge.records.records import Cause
from merge.records.sweep import Run
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.paths import SweepPaths
from orchestrator.local.events import LocalReport, RunOutcome
from orchestrator.machine.limits import start_thread
from orchestrator.runs.claims import finished, last_claim
from orchestrator.slurm.commands import call
from orchestrator.slurm.queue import TaskRow, task_row
from orchestrator.slurm.record import read_submission

_log = logging.getLogger(__name__)

_MAX_RESTARTS = 500
"""A task that is requeued more often makes no progress: its time limit is too short to reach a
checkpoint."""

_REQUEUE_TRIES = 5
_TIME_LEFT_TRIES = 10
"""Of a busy controller three were too few: a time limit counted as pre-emption."""
_PAUSE_S = 2.0
_MAX_EARLY_S = 60.0
"""SLURM checks time limits once a minute: it may signal up to 60 s early."""
_UNFINISHED = (RunOutcome.INTERRUPTED, RunOutcome.NOT_STARTED, RunOutcome.ELSEWHERE)


@dataclass(slots=True)
class StopFlag:
    """Whether SLURM has asked this task to stop."""

    is_set: bool = False


@contextmanager
def scheduler_signals() -> Iterator[StopFlag]:
    """From now on SIGTERM and SIGUSR2 set the yielded flag, also while no run is running.

    SLURM sends SIGUSR2 to every process of a step, and its default action ends a process. It is
    blocked here before any other thread or process starts; all of them inherit that. So torchrun
    and trainers without a handler survive until the executor sends them SIGTERM. A thread receives
    the blocked SIGUSR2 and turns it into a SIGTERM for this process. SystemLimitError without one.
    """
    stop = StopFlag()

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.is_set = True

    before = signal.signal(signal.SIGTERM, note)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    start_thread(threading.Thread(target=_translate, daemon=True, name="scheduler-signals"))
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _translate() -> None:
    while True:
        signal.sigwait({signal.SIGUSR2})
        # To the main thread: only there Python runs handlers, and a blocking call must be woken.
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
    stop: StopFlag,
    expiry_s: float,
    clock: Clock = SYSTEM_CLOCK,
) -> LocalReport:
    """Call `work` until its runs are done, failed, or claimed by an owner that is really alive.

    After a node failure SLURM restarts the task while the claims of the dead node still look
    alive. Such a claim expires after `expiry_s` seconds without a heartbeat; then `work` is called
    again and takes the run over.
    """
    while True:
        report = work()
        elsewhere = {ending.run.run_id for ending in report.having(RunOutcome.ELSEWHERE)}
        claimed = [run for run in runs if run.run_id in elsewhere]
        if report.was_stopped or stop.is_set or not claimed:
            return report
        if not _wait_for_free_run(output, claimed, stop, expiry_s, clock):
            return report


def requeue_if_stopped(
    report: LocalReport,
    stop: StopFlag,
    environment: Mapping[str, str],
    clock: Clock = SYSTEM_CLOCK,
) -> bool:
    """Requeue this task if SLURM stopped it with unfinished runs; whether that was done.

    A task that SLURM reports as RUNNING is requeued, and one that was pre-empted without being
    queued again (PreemptMode=CANCEL). A task that a person cancelled stays cancelled, and with
    PreemptMode=REQUEUE SLURM requeues it by itself.
    """
    was_stopped = report.was_stopped or stop.is_set
    if not was_stopped or not report.having(*_UNFINISHED):
        return False
    if (restarts := _num_restarts(environment)) >= _MAX_RESTARTS:
        _log.error(
            "the task was requeued %d times and is not requeued again: raise its time limit",
            restarts,
        )
        return False
    return _requeue(_own_id(environment), restarts, clock)


def _requeue(job: str, restarts: int, clock: Clock) -> bool:
    for _ in range(_REQUEUE_TRIES):
        try:
            row = task_row(job)
            if row is None or not _needs_requeue(row, restarts):
                return False
            call(["scontrol", "requeue", job])
        except SchedulerError as error:
            _log.warning("the task could not be requeued: %s; retrying", error)
            clock.sleep(_PAUSE_S)
        else:
            return True
    _log.error("SLURM did not requeue task %s: submit again to resume its runs", job)
    return False


def _needs_requeue(row: TaskRow, restarts: int) -> bool:
    if row.state == "RUNNING":
        return True
    # SLURM counts the restart as soon as it has decided to queue a pre-empted task again. With
    # PreemptMode=CANCEL it does not, but it obeys `scontrol requeue` until the task has ended.
    return row.state == "COMPLETING" and row.was_preempted and row.restarts == restarts


def why_stopped(
    cause: Cause, environment: Mapping[str, str], signal_s: float, clock: Clock = SYSTEM_CLOCK
) -> Cause:
    """The cause that SLURM reports for a signal that looks like `cause`; else `cause`.

    A task that SLURM ends is COMPLETING in squeue for every reason. That it was cancelled follows
    only from the absence of any other reason: it is not requeued (restart count), not pre-empted
    and has no reason such as TimeLimit. A RUNNING task within `signal_s` seconds of its limit,
    plus the 60 s by which SLURM may be early, got the signal because of that limit.
    """
    if cause is Cause.INTERRUPTED:
        return cause
    try:
        row = _row_with_time_left(_own_id(environment), clock)
    except (SchedulerError, UsageError) as error:
        _log.warning("SLURM does not say why it stops the task: %s", error)
        return cause
    if row is None or row.was_preempted:
        return cause
    if row.state == "RUNNING" and row.left_s <= signal_s + _MAX_EARLY_S:
        return Cause.TIME_LIMIT
    is_ending = row.state in ("COMPLETING", "CANCELLED") and not row.reason
    is_last = row.restarts == _num_restarts(environment)
    return Cause.CANCELLED if is_ending and is_last else cause


def _row_with_time_left(task: str, clock: Clock) -> TaskRow | None:
    """The row of this running task; queried again while its time limit is not known yet."""
    for _ in range(_TIME_LEFT_TRIES):
        # Just after its start squeue shows NOT_SET as the time left.
        row = task_row(task)
        if row is not None and (
            row.was_preempted or row.state != "RUNNING" or not math.isnan(row.left_s)
        ):
            break
        clock.sleep(_PAUSE_S / 2)
    return row


def _own_id(environment: Mapping[str, str]) -> str:
    # Not SLURM_JOB_ID: for one task of an array this is also the id of the whole array, and
    # `scontrol requeue` would then requeue all of its tasks.
    return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"


def _num_restarts(environment: Mapping[str, str]) -> int:
    return int(environment.get("SLURM_RESTART_COUNT") or 0)


def _wait_for_free_run(
    output: Path, runs: Sequence[Run], stop: StopFlag, expiry_s: float, clock: Clock
) -> bool:
    """Wait until a run is finished, released, or without a heartbeat for `expiry_s` s: then True.

    False once the heartbeats of all runs have changed: their owners are alive.
    """
    # Only changes count: clocks of other hosts may differ from the one here.
    first = {run.run_id: _last_beat(output, run) for run in runs}
    deadline = clock.monotonic() + expiry_s + 1.0
    while clock.monotonic() < deadline and not stop.is_set:
        beats = {run.run_id: _last_beat(output, run) for run in runs}
        if None in beats.values():
            return True
        if all(beats[name] != first[name] for name in beats):
            return False
        clock.sleep(_PAUSE_S / 2)
    return not stop.is_set


def _last_beat(output: Path, run: Run) -> tuple[int, float] | None:
    """Number and last heartbeat of the claim; None where the run is unclaimed or finished."""
    paths = SweepPaths(output).run(run.path)
    claim = last_claim(paths)
    if claim is None or claim.released or finished(paths, run.config_hash):
        return None
    return claim.number, claim.heartbeat
