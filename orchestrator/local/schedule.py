"""Which run starts when and on which devices, and what follows the end of an attempt.

One thread decides everything. Events of other threads and processes (an ended command, a signal,
a lost claim, a dead guard) arrive as a message in one inbox, so no two decisions race.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty

from merge.records.records import AttemptRecord, Cause, Outcome
from merge.records.sweep import Run
from orchestrator.local.attempt import Attempt, Cancelled, ExecutorContext, NotWorthTrying, begin
from orchestrator.local.claimed_elsewhere import ClaimedElsewhere, owner_text
from orchestrator.local.events import LocalReport, RunOutcome, RunProgressed, RunsCompleted
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
from orchestrator.local.settle import finish
from orchestrator.machine.device_slots import Slots
from orchestrator.machine.process import Guardian
from orchestrator.runs.claims import Busy, Finished, finished
from orchestrator.runs.progress import read_progress
from orchestrator.runs.requests import cancellation, cancelled_text, counted_attempts
from orchestrator.runs.retries import NoRetry, Retry, decide

_TICK_S = 0.5
_MOST_GUARDS = 20
"""Where guards die as soon as they start, restarting them forever would keep the machine busy."""


class Schedule:
    """The state of one `run_local`."""

    def __init__(
        self, context: ExecutorContext, outcomes: OutcomeLog, inbox: Inbox, guardian: Guardian
    ) -> None:
        self._context = context
        self._outcomes = outcomes
        self._inbox = inbox
        self._guardian = guardian
        self._waiting: deque[Run] = deque()
        self._delayed: list[tuple[float, Run]] = []
        self._live: dict[str, Attempt] = {}
        self._claimed_elsewhere = ClaimedElsewhere(context.output, context.settings)
        self._completed: list[Run] = []
        self._slots = Slots(context.settings.devices.slots, context.settings.runs_per_device)
        self._num_guards = 1
        self._is_stopping = False
        self._clock = context.settings.clock
        self._next_tick = 0.0

    def run(self, runs: Sequence[Run]) -> LocalReport:
        try:
            for run in runs:
                self._enqueue(run)
            while self._waiting or self._delayed or self._live or self._look_again():
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
                self._waiting.append(run)

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
        self._end_delays()
        if not self._waiting:
            return False
        # Only the head: if a run of one device overtook a waiting run of four, the latter might
        # never find four free at once.
        devices = self._slots.take(self._waiting[0].resources.devices_per_run)
        if devices is None:
            return False
        if not self._start(self._waiting.popleft(), devices):
            self._slots.give_back(devices)
        return True

    def _start(self, run: Run, devices: tuple[str, ...]) -> bool:
        """Whether `run` has the `devices` now, and its command was started."""
        with self._outcomes.boundary(run):
            if reason := self._claimed_elsewhere.failure_of(run):
                self._outcomes.end(run, RunOutcome.FAILED, reason)
                return False
            begun = begin(
                self._context,
                run,
                devices,
                lambda token: self._inbox.put(Exited(token)),
                self._claimed_elsewhere.failure_before_claim,
            )
            match begun:
                case Finished(result):
                    self._outcomes.already_done(run, result)
                case Busy():
                    owner, now = self._context.settings.owner, self._clock.now()
                    self._claimed_elsewhere.add(run, owner_text(begun, owner, now))
                case NotWorthTrying(reason):
                    self._outcomes.end(run, RunOutcome.FAILED, reason)
                case Cancelled(request):
                    self._outcomes.end(run, RunOutcome.CANCELLED, cancelled_text(request))
                case _:
                    self._live[begun.claim.token] = begun
                    self._outcomes.started(begun)
                    return True
        return False

    def _end_delays(self) -> None:
        """Put runs whose delay is over first: they have waited longest."""
        now = self._clock.monotonic()
        due = [run for at, run in self._delayed if at <= now]
        self._delayed = [(at, run) for at, run in self._delayed if at > now]
        self._waiting.extendleft(reversed(due))

    def _look_again(self) -> bool:
        """Whether there is more to do: runs that another executor has, or had at the last look."""
        if not self._is_stopping:
            if self._claimed_elsewhere and self._context.settings.stand_by:
                return True
            self._waiting.extend(self._claimed_elsewhere.last_look())
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
            case StopRequested(cause):
                self._stop(cause)
            case GuardDied():
                self._replace_guard()

    def _replace_guard(self) -> None:
        self._num_guards += 1
        if self._num_guards > _MOST_GUARDS:
            self._outcomes.notice(
                "guard processes keep dying: if this process is killed, the next invocation kills "
                "the trainers that it leaves"
            )
            return
        self._guardian.restart()
        self._outcomes.notice("the guard process had died; a new one was started")

    def _finish(self, attempt: Attempt) -> None:
        with self._outcomes.boundary(attempt.run):
            try:
                ended = finish(self._context, attempt)
            finally:
                # Its processes have ended, also where its result could not be written.
                self._slots.give_back(attempt.record.devices)
            self._outcomes.report_survivors(attempt, ended)
            decision = self._next_try(ended.record, attempt)
            if isinstance(decision, Retry):
                self._delayed.append((self._clock.monotonic() + decision.wait_s, attempt.run))
                self._outcomes.retried(attempt, ended, decision)
                return
            outcome = self._outcomes.ended(attempt, ended, decision.reason)
            if outcome is RunOutcome.DONE:
                self._completed.append(attempt.run)
            elif outcome is RunOutcome.ELSEWHERE:
                self._claimed_elsewhere.add(attempt.run, ended.record.reason)

    def _next_try(self, record: AttemptRecord, attempt: Attempt) -> Retry | NoRetry:
        if record.outcome is not Outcome.FAILED or self._is_stopping:
            return NoRetry()
        # Its claim was given back: another executor may be at the next attempt already.
        counted = counted_attempts(attempt.paths)
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

    def _stop(self, cause: Cause) -> None:
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
        for run in (*self._waiting, *(run for _, run in self._delayed)):
            self._outcomes.end(run, RunOutcome.NOT_STARTED)
        self._waiting.clear()
        self._delayed.clear()
        for attempt in self._live.values():
            attempt.stop(cause, grace_s)
        # After they were asked: SLURM may take seconds to answer, of the little time that is left.
        why = self._context.settings.why_stopped(cause)
        for attempt in self._live.values():
            attempt.stop_cause = why if attempt.stop_cause is cause else attempt.stop_cause

    def _tick(self) -> None:
        if not self._is_stopping:
            self._waiting.extend(self._claimed_elsewhere.due())
        for attempt in self._live.values():
            attempt.tick()
            self._show_progress(attempt)
            self._end_stalled(attempt)

    def _end_stalled(self, attempt: Attempt) -> None:
        limit_s = self._context.settings.restart_stalled_s
        if (
            limit_s is not None
            and attempt.stop_cause is None
            and attempt.silence.seconds() > limit_s
        ):
            attempt.kill(Cause.STALLED)

    def _show_progress(self, attempt: Attempt) -> None:
        number = attempt.record.number
        progress = read_progress(attempt.paths.attempt(number).events)
        if progress and progress != attempt.shown:
            attempt.shown = progress
            self._outcomes.publish(
                RunProgressed(run=attempt.run, attempt=number, progress=progress)
            )

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
