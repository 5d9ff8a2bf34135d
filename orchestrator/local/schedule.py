"""Which run starts when and on which devices, and what follows the end of an attempt.

One thread decides everything. Events of other threads and processes (an ended command, a signal,
a lost claim, a dead guard) arrive as a message in one inbox, so no two decisions race.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from queue import Empty

from merge.errors import StorageError
from merge.records.records import AttemptRecord, Cause, Outcome
from merge.records.sweep import Run
from merge.storage.paths import RunPaths
from orchestrator.local.attempt import (
    Attempt,
    Begun,
    Cancelled,
    ExecutorContext,
    NotStarted,
    NotWorthTrying,
    begin,
)
from orchestrator.local.claimed_elsewhere import ClaimedElsewhere, owner_text
from orchestrator.local.events import LocalReport, RunOutcome, RunsCompleted
from orchestrator.local.free_devices import FreeDevices
from orchestrator.local.guards import Guards
from orchestrator.local.messages import (
    CancelRequested,
    ClaimLost,
    Exited,
    GuardDied,
    Inbox,
    Message,
    StopRequested,
)
from orchestrator.local.outcomes import OutcomeLog
from orchestrator.local.second_tries import SecondTries
from orchestrator.local.settle import Ended, finish
from orchestrator.local.waiting_runs import WaitingRuns
from orchestrator.machine.device_slots import Slots
from orchestrator.machine.process import Guardian
from orchestrator.runs.claims import Busy, Finished, finished
from orchestrator.runs.requests import cancellation, cancelled_text, counted_attempts
from orchestrator.runs.retries import NoRetry, Retry, decide

_TICK_S = 0.5


class Schedule:
    """The state of one `run_local`."""

    def __init__(
        self, context: ExecutorContext, outcomes: OutcomeLog, inbox: Inbox, guardian: Guardian
    ) -> None:
        self._context = context
        self._outcomes = outcomes
        self._inbox = inbox
        self._guards = Guards(guardian, outcomes)
        self._second_tries = SecondTries()
        self._clock = context.settings.clock
        self._waiting = WaitingRuns(self._clock)
        self._live: dict[str, Attempt] = {}
        self._claimed_elsewhere = ClaimedElsewhere(context.output, context.settings)
        self._completed: list[Run] = []
        self._slots = Slots(context.settings.devices.slots, context.settings.runs_per_device)
        self._free_devices = FreeDevices(context.settings, outcomes.notice)
        self._is_stopping = False
        self._stop_announced = 0.0
        """Monotonic time at which the request to stop was answered."""
        self._next_tick = 0.0

    def run(self, runs: Sequence[Run]) -> LocalReport:
        """Train `runs` until each has its outcome; an error of the executor kills all trainers."""
        try:
            for run in runs:
                self._enqueue(run)
            while self._waiting or self._live or self._look_again():
                self._step()
            self._announce_completed()
        except BaseException:
            self._abandon()
            raise
        return self._outcomes.close(was_stopped=self._is_stopping)

    def _enqueue(self, run: Run) -> None:
        with self._outcomes.boundary(run):
            paths = self._context.output.run(run.path)
            if result := finished(paths, run.config_hash):
                self._outcomes.already_done(run, result)
            elif request := cancellation(paths):
                self._outcomes.end(run, RunOutcome.CANCELLED, cancelled_text(request))
            else:
                self._claimed_elsewhere.first_seen(run)
                self._waiting.add([run])

    def _step(self) -> None:
        if self._start_next():
            self._take_messages(0.0)
        else:
            # Only now that no run can be started: what listens may merge, which takes longer than
            # the shortest runs, and a free device would wait for it.
            self._announce_completed()
            self._take_messages(_TICK_S)
        if self._clock.monotonic() >= self._next_tick:
            self._next_tick = self._clock.monotonic() + _TICK_S
            self._tick()

    def _start_next(self) -> bool:
        """Take the next run off the list; False where it must wait for devices, or none waits."""
        run = self._waiting.first
        if run is None:
            return False
        # Only the head: if a run of one device overtook a waiting run of four, the latter might
        # never find four free at once.
        devices = self._slots.take(run.resources.devices_per_run, self._free_devices.in_use)
        if devices is None:
            return False
        if not self._start(self._waiting.pop(), devices):
            self._slots.give_back(devices)
        return True

    def _start(self, run: Run, devices: tuple[str, ...]) -> bool:
        """Whether `run` has the `devices` now, and its command was started."""
        with self._outcomes.boundary(run):
            if reason := self._claimed_elsewhere.failure_of(run):
                self._outcomes.end(run, RunOutcome.FAILED, reason)
                return False
            match self._begin(run, devices):
                case None:
                    return False
                case Finished(result):
                    self._outcomes.already_done(run, result)
                case Busy() as busy:
                    owner, now = self._context.settings.owner, self._clock.now()
                    self._claimed_elsewhere.add(run, owner_text(busy, owner, now))
                case NotWorthTrying(reason):
                    self._outcomes.end(run, RunOutcome.FAILED, reason)
                case Cancelled(request):
                    self._outcomes.end(run, RunOutcome.CANCELLED, cancelled_text(request))
                case NotStarted(paths, record):
                    self._settle(run, paths, Ended(record=record))
                case Attempt() as begun:
                    self._live[begun.claim.token] = begun
                    self._outcomes.started(begun)
                    return True
        return False

    def _begin(self, run: Run, devices: tuple[str, ...]) -> Begun | None:
        """What became of the start of `run`; None where it is tried again later."""
        try:
            return begin(
                self._context,
                run,
                devices,
                lambda token: self._inbox.put(Exited(token)),
                self._claimed_elsewhere.failure_before_claim,
            )
        except StorageError as error:
            wait_s = None if self._is_stopping else self._second_tries.wait_s(run, error)
            if wait_s is None:
                raise
            self._outcomes.notice(f"{run.run_id} is tried again in {wait_s:.0f} s: {error}", run)
            self._waiting.delay(run, wait_s)
            return None

    def _look_again(self) -> bool:
        """Whether there is more to do: runs that another executor has, or had at the last look."""
        if not self._is_stopping:
            if self._claimed_elsewhere and self._context.settings.stand_by:
                return True
            self._waiting.add(self._claimed_elsewhere.last_look())
        for run, who in [] if self._waiting else self._claimed_elsewhere.drain():
            self._outcomes.end(run, RunOutcome.ELSEWHERE, who)
        return bool(self._waiting)

    def _take_messages(self, patience_s: float) -> None:
        with suppress(Empty):
            self._handle(self._inbox.get(timeout=patience_s))
            while True:
                self._handle(self._inbox.get_nowait())

    def _handle(self, message: Message) -> None:
        match message:
            case Exited(token):
                self._finish(self._live.pop(token))
            case ClaimLost(token):
                # No grace: its new owner trains the same run already, with the same checkpoints.
                if attempt := self._live.get(token):
                    attempt.has_lost_claim = True
                    attempt.kill(Cause.LOST)
            case CancelRequested(token):
                self._cancel(token)
            case StopRequested(cause, at):
                self._stop(cause, at)
            case GuardDied():
                self._guards.replace()

    def _finish(self, attempt: Attempt) -> None:
        with self._outcomes.boundary(attempt.run):
            try:
                ended = finish(self._context, attempt)
            finally:
                # Its processes have ended, also where its result could not be written.
                self._slots.give_back(attempt.record.devices)
            self._outcomes.report_survivors(attempt, ended)
            self._settle(attempt.run, attempt.paths, ended)

    def _settle(self, run: Run, paths: RunPaths, ended: Ended) -> None:
        """Try `run` again after its attempt has `ended`, or give it its outcome."""
        decision = self._next_try(ended.record, paths)
        if isinstance(decision, Retry):
            self._waiting.delay(run, decision.wait_s)
            self._outcomes.retried(run, paths, ended, decision)
            return
        outcome = self._outcomes.ended(run, paths, ended, decision.reason)
        if outcome is RunOutcome.DONE:
            self._completed.append(run)
        elif outcome is RunOutcome.ELSEWHERE:
            self._claimed_elsewhere.add(run, ended.record.reason)

    def _next_try(self, record: AttemptRecord, paths: RunPaths) -> Retry | NoRetry:
        if record.outcome is not Outcome.FAILED or self._is_stopping:
            return NoRetry()
        # Its claim was given back: another executor may be at the next attempt already.
        counted = counted_attempts(paths)
        history = [each for each in counted if each.number <= record.number]
        return decide(history, self._context.settings.retries)

    def _announce_completed(self) -> None:
        runs, self._completed = tuple(self._completed), []
        if runs:
            self._outcomes.publish(RunsCompleted(runs=runs))

    def _cancel(self, token: str) -> None:
        # It may have ended meanwhile; and each heartbeat finds the same request again.
        attempt = self._live.get(token)
        if attempt and attempt.stop_cause is None:
            grace_s = self._context.settings.grace_s
            self._outcomes.notice(
                f"{attempt.run.run_id} is cancelled: it writes its checkpoint "
                f"(up to {grace_s:.0f} s)",
                attempt.run,
            )
            attempt.stop(Cause.CANCELLED, grace_s)

    def _stop(self, cause: Cause, at: float) -> None:
        # Made before the first one was answered: a wrapper such as `timeout` passes a signal on and
        # sends it to the whole group, too.
        if self._is_stopping and at <= self._stop_announced:
            return
        if self._is_stopping:
            self._outcomes.notice("second request to stop: all runs are killed")
            self._kill_live(cause)
            return
        grace_s = self._context.settings.grace_s
        self._is_stopping = True
        self._outcomes.notice(
            f"stopping: {len(self._live)} runs write their checkpoints (up to {grace_s:.0f} s); "
            f"ask again to kill them"
        )
        self._stop_announced = self._clock.monotonic()
        for run in self._waiting.drain():
            self._outcomes.end(run, RunOutcome.NOT_STARTED)
        for attempt in self._live.values():
            attempt.stop(cause, grace_s)
        # After they were asked: SLURM may take seconds to answer, of the little time that is left.
        why = self._context.settings.why_stopped(cause)
        for attempt in self._live.values():
            attempt.stop_cause = why if attempt.stop_cause is cause else attempt.stop_cause

    def _tick(self) -> None:
        self._guards.tick()
        if not self._is_stopping:
            self._waiting.add(self._claimed_elsewhere.due())
        for attempt in self._live.values():
            attempt.tick()
            self._outcomes.progressed(attempt)
            attempt.end_stalled(self._context.settings.restart_stalled_s)

    def _kill_live(self, cause: Cause) -> None:
        for attempt in self._live.values():
            attempt.kill(cause)

    def _abandon(self) -> None:
        """After an error that ends the sweep: leave no trainer running and no run claimed."""
        self._outcomes.mute()
        self._kill_live(Cause.INTERRUPTED)
        while self._live:
            _, attempt = self._live.popitem()
            self._finish(attempt)
