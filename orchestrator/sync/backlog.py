"""Sending finished runs beside a sweep: training never waits for the store and never fails by it.

One thread sends. What fails stays in the backlog and is tried again, later and later, each time
with credentials read anew; at the end the caller learns what is still here only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from merge.errors import BucketError, PapergridError
from merge.records.sweep import Run, Sweep
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import Bucket, delay_s
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.cache import Memory
from orchestrator.sync.files import Selection
from orchestrator.sync.merged_view import merge_in_bucket
from orchestrator.sync.plan import TRIES
from orchestrator.sync.pull import is_running
from orchestrator.sync.push import Push, prepare
from orchestrator.sync.report import Remark, SyncReport

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 60.0
_LOOK_S = 0.2
_LAST_PAUSE_S = 1.0
"""Between tries when the sweep has ended and somebody waits for us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsent:
    """What a sweep leaves behind in its backlog."""

    runs: tuple[Run, ...]
    is_view_due: bool
    """Whether the merged JSON in the bucket may lack something."""
    reason: str
    remarks: tuple[Remark, ...]
    """Files that are not in the bucket as they are here, and why."""
    has_second_results: bool
    """Whether the bucket has another result of a run, or something is damaged."""


class SharedRuns(Protocol):
    """What a backlog asks of claims in a bucket, where hosts share no folder."""

    checkpoints_every_s: float

    def going_on(self) -> Sequence[Run]:
        """The runs of this host whose checkpoints are to be sent while they train."""
        ...

    def ended(self, run: Run) -> str | None:
        """The token of the attempt of `run` that has ended here; None while it goes on."""
        ...

    def was_sent(self, run: Run, ended: str | None) -> None:
        """All files of `run` are in the bucket, as they were when `ended` was asked."""
        ...


class Backlog:
    """The runs of one sweep that are to be sent; a thread sends them from `start` to `close`."""

    def __init__(
        self,
        output: Path,
        target: BucketTarget,
        runs: Sequence[Run],
        shared: SharedRuns | None = None,
    ) -> None:
        self._output = output
        self._target = replace(target, patience=TRIES)
        self._runs = tuple(runs)
        self._shared = shared
        self._next_look = 0.0
        self._changed = threading.Condition()
        self._waiting: dict[str, Run] = {}
        self._again: set[str] = set()
        """Ids of runs that were enlisted since their sending began: there is more to send."""
        self._is_view_due = False
        self._is_closing = False
        self._reason = ""
        self._news: list[str] = []
        self._report = SyncReport(tell=self._moved)
        self._progressed = time.monotonic()
        self._way: tuple[Push, Sweep] | None = None
        self._thread = threading.Thread(target=self._work, name="sync", daemon=True)

    def start(self) -> None:
        """Begin with what earlier invocations finished."""
        self._enlist([run for run in self._runs if self._has_result(run)])
        self._thread.start()

    def completed(self, run: Run) -> None:
        """Send `run` when its turn comes; returns at once."""
        self._enlist([run])

    def news(self) -> list[str]:
        """What a person should hear, each once: the store is away, it is back."""
        with self._changed:
            news, self._news = self._news, []
        return news

    def close(self, patience_s: float) -> Unsent:
        """Send what is left, as long as something moves at least every `patience_s` seconds."""
        self._enlist([run for run in self._runs if self._is_ours(run)])
        with self._changed:
            self._is_closing = True
            self._progressed = time.monotonic()
            self._changed.notify_all()
        while self._thread.is_alive() and time.monotonic() - self._progressed < patience_s:
            self._thread.join(_LOOK_S)
        with self._changed:
            return Unsent(
                runs=tuple(self._waiting.values()),
                is_view_due=self._is_view_due,
                reason=self._reason,
                remarks=self._report.remarks,
                has_second_results=bool(self._report.aside or self._report.problems),
            )

    def _enlist(self, runs: Sequence[Run]) -> None:
        with self._changed:
            self._waiting.update({run.run_id: run for run in runs})
            self._again.update(run.run_id for run in runs)
            self._changed.notify_all()

    def _has_result(self, run: Run) -> bool:
        return SweepPaths(self._output).run(run.path).result.is_file()

    def _is_ours(self, run: Run) -> bool:
        """Whether the last word on `run` here is spoken: nobody else trains it now."""
        folder = SweepPaths(self._output).run(run.path).root
        try:
            return folder.is_dir() and not is_running(self._output, run)
        except PapergridError:
            return False

    def _work(self) -> None:
        failures = 0
        while self._wait_for_work():
            try:
                self._send_all()
            except Exception as error:  # noqa: BLE001
                # Whatever it is: the sweep goes on, and the backlog is tried again.
                if not isinstance(error, PapergridError):
                    _log.exception("sync failed; it is tried again")
                if self._has_failed(error, failures):
                    return
                failures += 1
            else:
                failures = 0

    def _wait_for_work(self) -> bool:
        """Wait until there is something to send; False where all is sent and the end has come."""
        with self._changed:
            while not (self._has_work() and SweepPaths(self._output).sweep.exists()):
                if self._is_closing:
                    return False
                self._changed.wait(_LOOK_S if self._has_work() else 1.0)
                self._look_at_what_goes_on()
        return True

    def _look_at_what_goes_on(self) -> None:
        """Send checkpoints of going runs too, where another host may have to go on from them."""
        if self._shared and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + self._shared.checkpoints_every_s
            self._waiting.update({run.run_id: run for run in self._shared.going_on()})

    def _has_work(self) -> bool:
        return bool(self._waiting) or self._is_view_due

    def _send_all(self) -> None:
        way, sweep = self._connected()
        while run := self._next():
            self._send(way, run)
        if self._is_view_due:
            self._bring_view_up_to_date(way, sweep)
        way.memory.save()
        if self._reason:
            self._say(f"{self._target.url} takes files again; nothing is left to send")
            self._reason = ""

    def _send(self, way: Push, run: Run) -> None:
        # Asked before its files are listed: what ends while they are sent leaves more of them.
        ended = self._shared.ended(run) if self._shared else None
        way.run(run)
        if self._shared:
            self._shared.was_sent(run, ended)
        with self._changed:
            if run.run_id not in self._again:
                self._waiting.pop(run.run_id, None)
            self._is_view_due = True
        self._moved(run.run_id, 0)

    def _next(self) -> Run | None:
        with self._changed:
            run = next(iter(self._waiting.values()), None)
            if run:
                self._again.discard(run.run_id)
            return run

    def _bring_view_up_to_date(self, way: Push, sweep: Sweep) -> None:
        self._is_view_due = False
        try:
            merge_in_bucket(way.bucket, way.memory, sweep)
        except BucketError as error:
            self._say(str(error))
        except PapergridError:
            self._is_view_due = True
            raise

    def _connected(self) -> tuple[Push, Sweep]:
        """The way there: made anew after each failure, with credentials read anew."""
        if self._way is None:
            bucket = Bucket(self._target)
            way = Push(
                output=self._output,
                bucket=bucket,
                memory=Memory(self._output, bucket),
                selection=Selection(),
                report=self._report,
            )
            self._way = way, prepare(way)
        return self._way

    def _moved(self, name: str, size: int) -> None:  # noqa: ARG002
        self._progressed = time.monotonic()

    def _has_failed(self, error: Exception, failures: int) -> bool:
        """Wait before the next try; True where the end has come and no try would help."""
        self._way = None
        if str(error) != self._reason:
            self._say(f"not sent for now, training goes on: {error}")
        self._reason = str(error)
        if self._is_closing and isinstance(error, BucketError):
            return True
        until = time.monotonic() + delay_s(failures, _LONGEST_PAUSE_S)
        with self._changed:
            while (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
                if self._is_closing:
                    until = min(until, time.monotonic() + _LAST_PAUSE_S)
        return False

    def _say(self, message: str) -> None:
        with self._changed:
            self._news.append(message)
