"""Sending finished runs beside a sweep: training never waits for the store and never fails by it.

One thread sends. A run that cannot be sent stays in the backlog and is retried with back-off, each
time with credentials read anew. At the end the caller learns what is still only here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from merge.errors import BucketError, PapergridError
from merge.records.sweep import Run, Sweep
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.paths import SweepPaths
from orchestrator.machine.limits import start_thread
from orchestrator.s3.backoff import backoff_s
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.merged_view import update_merged_view
from orchestrator.sync.plan import ATTEMPTS_BESIDE_TRAINING
from orchestrator.sync.push import Push, prepare_push
from orchestrator.sync.report import SyncIssue, SyncReport
from orchestrator.sync.running import Activity, ClaimWatch

_log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 60.0
_POLL_S = 0.2
_IDLE_POLL_S = 1.0
_LAST_PAUSE_S = 1.0
"""Between attempts once the sweep has ended: then the command waits for this thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOutcome:
    """The state of a backlog when it was closed."""

    unsent_runs: tuple[Run, ...]
    is_view_outdated: bool
    """Whether the merged JSON in the bucket may lack results."""
    reason: str
    """The last error; empty where everything was sent."""
    issues: tuple[SyncIssue, ...]
    """Files that are not in the bucket as they are here, and why."""
    has_second_results: bool
    """Whether the bucket has another result of a run, or something is damaged."""


class ClaimedRuns(Protocol):
    """What a backlog needs of claims in a bucket, where hosts share no folder."""

    checkpoints_every_s: float

    def running(self) -> Sequence[Run]:
        """The runs of this host whose checkpoints are to be sent while they train."""
        ...

    def ended_token(self, run: Run) -> str | None:
        """The token of the attempt of `run` that has ended here; None while it is running."""
        ...

    def release_sent(self, run: Run, ended_token: str | None) -> None:
        """All files that `run` had when `ended_token` was asked for are in the bucket."""
        ...


def delay_message(error: Exception) -> str:
    """The message for an error of the store that does not end the training."""
    return f"not sent yet, training continues and the upload is retried: {error}"


class Backlog:
    """The runs of one sweep that are to be sent; a thread sends them from `start` to `close`."""

    def __init__(
        self,
        output: Path,
        target: BucketTarget,
        runs: Sequence[Run],
        claimed: ClaimedRuns | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._output = output
        self._target = replace(target, max_attempts=ATTEMPTS_BESIDE_TRAINING)
        self._runs = tuple(runs)
        self._claimed = claimed
        self._watch = ClaimWatch(output, clock)
        self._next_checkpoints = 0.0
        self._changed = threading.Condition()
        self._queue: dict[str, Run] = {}
        """By run id, the oldest first."""
        self._queued_again: set[str] = set()
        """Ids of runs that were queued since their upload began: they have more to send."""
        self._is_view_outdated = False
        self._is_closing = False
        self._reason = ""
        self._messages: list[str] = []
        self._report = SyncReport(on_transfer=self._record_progress)
        self._last_progress = self._clock.monotonic()
        self._connection: tuple[Push, Sweep] | None = None
        # A daemon: a request that hangs (60 s until its timeout) must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="sync", daemon=True)

    def start(self) -> None:
        """Start the thread, first with the runs that earlier commands finished.

        SystemLimitError where the system gives no thread now.
        """
        self._enqueue([run for run in self._runs if self._has_result(run)])
        start_thread(self._thread)

    def add(self, run: Run) -> None:
        """Queue `run`; returns at once."""
        self._enqueue([run])

    def pop_messages(self) -> list[str]:
        """Messages for the person, each once: the store does not answer, it answers again."""
        with self._changed:
            messages, self._messages = self._messages, []
        return messages

    def close(self, patience_s: float) -> SyncOutcome:
        """Send what is left, as long as a file is sent at least every `patience_s` seconds."""
        self._enqueue([run for run in self._runs if self._is_settled(run)])
        with self._changed:
            self._is_closing = True
            self._last_progress = self._clock.monotonic()
            self._changed.notify_all()
        while (
            self._thread.is_alive() and self._clock.monotonic() - self._last_progress < patience_s
        ):
            self._thread.join(_POLL_S)
        with self._changed:
            return SyncOutcome(
                unsent_runs=tuple(self._queue.values()),
                is_view_outdated=self._is_view_outdated,
                reason=self._reason,
                issues=self._report.issues,
                has_second_results=bool(self._report.aside or self._report.problems),
            )

    def _enqueue(self, runs: Sequence[Run]) -> None:
        with self._changed:
            self._queue.update({run.run_id: run for run in runs})
            self._queued_again.update(run.run_id for run in runs)
            self._changed.notify_all()

    def _has_result(self, run: Run) -> bool:
        return SweepPaths(self._output).run(run.path).result.is_file()

    def _is_settled(self, run: Run) -> bool:
        """Whether `run` has files here that no live process changes."""
        folder = SweepPaths(self._output).run(run.path).root
        try:
            return folder.is_dir() and self._watch.look(run) is Activity.IDLE
        except (PapergridError, OSError):
            return False

    def _work(self) -> None:
        # A first sight of other hosts' claims: `close` sends the files of those that are silent
        # from now until then.
        for run in self._runs:
            self._is_settled(run)
        failures = 0
        while self._wait_for_work():
            try:
                self._send_all()
            except Exception as error:  # noqa: BLE001
                # Every error is retried: nothing of a sync may end the training.
                if not isinstance(error, PapergridError):
                    _log.exception("sync failed; it is retried")
                if self._handle_failure(error, failures):
                    return
                failures += 1
            else:
                failures = 0

    def _wait_for_work(self) -> bool:
        """Wait until there is something to send; False where all is sent and `close` was called."""
        with self._changed:
            # Without a plan there is nothing to send: the folder's disk may be away for a while.
            while not (self._has_work() and SweepPaths(self._output).sweep.exists()):
                if self._is_closing:
                    return False
                self._changed.wait(_POLL_S if self._has_work() else _IDLE_POLL_S)
                self._enqueue_checkpoints()
        return True

    def _enqueue_checkpoints(self) -> None:
        """Queue running runs too, where another host may have to resume them."""
        if self._claimed and self._clock.monotonic() >= self._next_checkpoints:
            self._next_checkpoints = self._clock.monotonic() + self._claimed.checkpoints_every_s
            self._queue.update({run.run_id: run for run in self._claimed.running()})

    def _has_work(self) -> bool:
        return bool(self._queue) or self._is_view_outdated

    def _send_all(self) -> None:
        push, sweep = self._connect()
        while run := self._next():
            self._send(push, run)
        if self._is_view_outdated:
            self._update_view(push, sweep)
        push.cache.save()
        if self._reason:
            self._add_message(f"{self._target.url} accepts files again; everything is sent")
            self._reason = ""

    def _send(self, push: Push, run: Run) -> None:
        # Asked before the files are listed: an attempt that ends during the upload leaves more.
        ended_token = self._claimed.ended_token(run) if self._claimed else None
        push.push_run(run)
        if self._claimed:
            self._claimed.release_sent(run, ended_token)
        with self._changed:
            if run.run_id not in self._queued_again:
                self._queue.pop(run.run_id, None)
            self._is_view_outdated = True
        self._record_progress(run.run_id, 0)

    def _next(self) -> Run | None:
        with self._changed:
            # It stays in the queue until it is sent: an error on the way is retried.
            run = next(iter(self._queue.values()), None)
            if run:
                self._queued_again.discard(run.run_id)
            return run

    def _update_view(self, push: Push, sweep: Sweep) -> None:
        try:
            update_merged_view(push.bucket, push.cache, sweep, self._clock)
        except BucketError as error:
            # The store ignores conditions: no retry would change that.
            self._add_message(str(error))
        # Last: after any other error the view is still outdated, and is retried.
        self._is_view_outdated = False

    def _connect(self) -> tuple[Push, Sweep]:
        """The push to the bucket; made anew after each failure."""
        if self._connection is None:
            # A client keeps the credentials that it was made with, also when they have expired.
            push = Push.between(self._output, Bucket(self._target), report=self._report)
            self._connection = push, prepare_push(push)
        return self._connection

    def _record_progress(self, name: str, size: int) -> None:  # noqa: ARG002
        self._last_progress = self._clock.monotonic()

    def _handle_failure(self, error: Exception, failures: int) -> bool:
        """Wait before the next attempt; True where `close` was called and no retry would help."""
        self._connection = None
        if str(error) != self._reason:
            self._add_message(delay_message(error))
        self._reason = str(error)
        if self._is_closing and isinstance(error, BucketError):
            return True
        until = self._clock.monotonic() + backoff_s(failures, _LONGEST_PAUSE_S)
        with self._changed:
            while (left := until - self._clock.monotonic()) > 0:
                self._changed.wait(left)
                if self._is_closing:
                    until = min(until, self._clock.monotonic() + _LAST_PAUSE_S)
        return False

    def _add_message(self, message: str) -> None:
        with self._changed:
            self._messages.append(message)
