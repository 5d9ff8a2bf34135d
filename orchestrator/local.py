"""The local executor: schedules a sweep's runs over this machine's devices.

One thread decides everything. Whatever happens elsewhere, an ended command, Ctrl-C, a lost claim, a
dead guard, is a message in one inbox: nothing is polled for, and nothing races.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from merge.errors import PapergridError
from merge.paths import SweepPaths
from merge.sweep import Run, Sweep
from orchestrator.attempt import Attempt, Workplace, begin, finish
from orchestrator.claims import Busy, Finished, finished
from orchestrator.devices import check_fit
from orchestrator.guard import EXECUTOR, kill_marked
from orchestrator.happenings import Fate, Happening, LocalReport, RunProgressed
from orchestrator.heartbeat import Heartbeat
from orchestrator.ledger import Ledger
from orchestrator.local_settings import LocalSettings
from orchestrator.others import Others, whose
from orchestrator.processes import Guardian
from orchestrator.progress import read_progress
from orchestrator.signals import stop_requests

__all__ = ["LocalReport", "LocalSettings", "run_local"]

_TICK_S = 0.5
_MOST_GUARDS = 20
"""A machine on which guards die at their start must not be kept busy starting them."""


@dataclass(frozen=True, slots=True)
class _Exited:
    token: str


@dataclass(frozen=True, slots=True)
class _ClaimLost:
    token: str


@dataclass(frozen=True, slots=True)
class _StopAsked:
    pass


@dataclass(frozen=True, slots=True)
class _GuardDied:
    pass


_Message = _Exited | _ClaimLost | _StopAsked | _GuardDied
_Inbox = SimpleQueue[_Message]


def run_local(
    sweep: Sweep,
    runs: Sequence[Run],
    output: Path,
    settings: LocalSettings,
    report: Callable[[Happening], None],
) -> LocalReport:
    """Run `runs` of `sweep` in the folder `output`, as many at a time as the devices allow.

    Finished runs are skipped, a failed run stops no other. The first Ctrl-C (SIGTERM, hang-up) has
    the trainers write their checkpoints, the second kills them; no process outlives this call.
    `report` is called from this thread. UsageError where the devices cannot serve the runs.
    """
    check_fit(settings.devices, runs)
    marker = secrets.token_hex(16)
    inbox: _Inbox = SimpleQueue()
    guardian = Guardian(marker, lambda: inbox.put(_GuardDied()))
    try:
        with (
            stop_requests(lambda: inbox.put(_StopAsked())),
            Heartbeat(
                settings.heartbeat_s, lambda token: inbox.put(_ClaimLost(token)), settings.claims
            ) as heart,
        ):
            place = Workplace(
                sweep=sweep,
                output=SweepPaths(output.resolve()),
                settings=settings,
                marker=marker,
                heartbeat=heart,
            )
            ledger = Ledger(sweep.metric, report)
            return _Executor(place, ledger, inbox, guardian).run(runs)
    finally:
        kill_marked(EXECUTOR, marker)
        guardian.close()


class _Executor:
    """The state of one `run_local`."""

    def __init__(self, place: Workplace, ledger: Ledger, inbox: _Inbox, guardian: Guardian) -> None:
        self._place = place
        self._ledger = ledger
        self._inbox = inbox
        self._guardian = guardian
        self._waiting: deque[Run] = deque()
        self._live: dict[str, Attempt] = {}
        self._others = Others(place.output, place.settings)
        self._completed: deque[Run] = deque()
        self._free = list(place.settings.devices.slots)
        self._num_guards = 1
        self._stop_deadline: float | None = None
        self._next_tick = 0.0

    def run(self, runs: Sequence[Run]) -> LocalReport:
        try:
            for run in runs:
                self._sort_out(run)
            while self._waiting or self._live or self._look_again():
                self._step()
            self._announce_completed()
        except BaseException:
            self._abandon()
            raise
        return self._ledger.close(was_stopped=self._stop_deadline is not None)

    def _sort_out(self, run: Run) -> None:
        with self._ledger.boundary(run):
            result = finished(self._place.output.run(run.path), run.config_hash)
            if result:
                self._ledger.already_done(run, result)
            else:
                self._others.first_seen(run)
                self._waiting.append(run)

    def _step(self) -> None:
        if self._start_next():
            self._take_messages(0.0)
        else:
            self._announce_completed()
            self._take_messages(_TICK_S)
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + _TICK_S
            self._tick()

    def _start_next(self) -> bool:
        """Take the next run off the list; False where it must wait for devices, or none waits."""
        if not self._waiting or self._waiting[0].resources.devices_per_run > len(self._free):
            return False
        run = self._waiting.popleft()
        devices = tuple(self._free[: run.resources.devices_per_run])
        with self._ledger.boundary(run):
            if reason := self._others.failure_of(run):
                self._ledger.end(run, Fate.FAILED, reason)
                return True
            begun = begin(self._place, run, devices, lambda token: self._inbox.put(_Exited(token)))
            match begun:
                case Finished(result):
                    self._ledger.already_done(run, result)
                case Busy(claim):
                    self._others.add(run, whose(claim))
                case _:
                    del self._free[: len(devices)]
                    self._live[begun.claim.token] = begun
                    self._ledger.started(begun)
        return True

    def _look_again(self) -> bool:
        """Whether there is more to wait for: runs that others have, or had when we looked."""
        if self._stop_deadline is None:
            if self._others and self._place.settings.stand_by:
                return True
            self._waiting.extend(self._others.last_look())
        for run, who in [] if self._waiting else self._others.drain():
            self._ledger.end(run, Fate.ELSEWHERE, who)
        return bool(self._waiting)

    def _take_messages(self, patience_s: float) -> None:
        with suppress(Empty):
            self._handle(self._inbox.get(timeout=patience_s))
            while True:
                self._handle(self._inbox.get_nowait())

    def _handle(self, message: _Message) -> None:
        match message:
            case _Exited(token):
                self._finish(self._live.pop(token))
            case _ClaimLost(token):
                if attempt := self._live.get(token):
                    attempt.has_lost_claim = True
                    attempt.process.kill()
            case _StopAsked():
                self._stop()
            case _GuardDied():
                self._replace_guard()

    def _replace_guard(self) -> None:
        self._num_guards += 1
        if self._num_guards > _MOST_GUARDS:
            self._ledger.notice(
                "guard processes keep dying: if this process is killed, the next invocation ends "
                "what it leaves"
            )
            return
        self._guardian.restart()
        self._ledger.notice("the guard process had died; a new one is on duty")

    def _finish(self, attempt: Attempt) -> None:
        with self._ledger.boundary(attempt.run):
            try:
                ended = finish(self._place, attempt)
            finally:
                self._free.extend(attempt.record.devices)
                self._free.sort(key=self._place.settings.devices.slots.index)
            fate = self._ledger.ended(attempt, ended)
            if fate is Fate.DONE:
                self._completed.append(attempt.run)
            elif fate is Fate.ELSEWHERE:
                self._others.add(attempt.run, ended.record.reason)

    def _announce_completed(self) -> None:
        while self._completed:
            run = self._completed.popleft()
            try:
                self._place.settings.on_completion(run)
            except PapergridError as error:
                self._ledger.notice(f"after {run.run_id}: {error}", run)

    def _stop(self) -> None:
        if self._stop_deadline is not None:
            self._ledger.notice("asked again: all runs are killed")
            self._kill_live()
            return
        grace_s = self._place.settings.grace_s
        self._stop_deadline = time.monotonic() + grace_s
        self._ledger.notice(
            f"stopping: {len(self._live)} runs write their checkpoints (up to {grace_s:.0f} s); "
            f"ask again to kill them"
        )
        for run in self._waiting:
            self._ledger.end(run, Fate.NOT_STARTED)
        self._waiting.clear()
        self._ask_to_stop()

    def _tick(self) -> None:
        if self._stop_deadline is not None:
            self._ask_to_stop()
            if time.monotonic() > self._stop_deadline:
                self._kill_live()
        else:
            self._waiting.extend(self._others.due())
        for attempt in self._live.values():
            self._show_progress(attempt)

    def _show_progress(self, attempt: Attempt) -> None:
        number = attempt.record.number
        progress = read_progress(attempt.paths.attempt(number).events)
        if progress and progress != attempt.shown:
            attempt.shown = progress
            self._ledger.report(RunProgressed(run=attempt.run, attempt=number, progress=progress))

    def _ask_to_stop(self) -> None:
        for attempt in self._live.values():
            attempt.was_stopped = True
            attempt.process.ask_to_stop()

    def _kill_live(self) -> None:
        for attempt in self._live.values():
            attempt.was_stopped = True
            attempt.process.kill()

    def _abandon(self) -> None:
        """Where an error ends the sweep: no attempt outlives it, no run stays claimed."""
        self._ledger.mute()
        self._kill_live()
        while self._live:
            _, attempt = self._live.popitem()
            self._finish(attempt)
