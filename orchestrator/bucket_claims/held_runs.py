"""The runs that this host holds in a bucket, and their heartbeat."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from merge.errors import PapergridError, SystemLimitError
from merge.records.records import Claim
from merge.records.sweep import Run
from merge.storage.clock import SYSTEM_CLOCK, Clock
from orchestrator.bucket_claims.remote_claims import RemoteClaims
from orchestrator.machine.limits import start_thread
from orchestrator.machine.repeating_thread import failures_logged

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class HeldRun:
    """A run that this host has claimed in the bucket."""

    run: Run
    remote_claim: Claim
    local_token: str = ""
    """Of the claim in the output folder; empty until the run is claimed there too."""
    is_running: bool = False
    """False before the attempt starts, and once it has ended: the run is given back when its files
    are sent."""
    is_lost: bool = False
    """Whether another host has taken the run over."""
    write_lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the claim's object is written: a heartbeat must not undo its release."""


class HeldRuns:
    """All held runs, by their id. Safe for many threads."""

    def __init__(self, remote: RemoteClaims, clock: Clock = SYSTEM_CLOCK) -> None:
        self._remote = remote
        self._clock = clock
        self._held: dict[str, HeldRun] = {}
        self._lock = threading.Lock()

    def get(self, run: Run) -> HeldRun | None:
        """The held run; None where this host does not hold `run`."""
        return self._held.get(run.run_id)

    def add(self, held: HeldRun) -> None:
        """Hold a run that was just claimed."""
        with self._lock:
            self._held[held.run.run_id] = held

    def remove(self, held: HeldRun) -> None:
        """No longer hold a run."""
        with self._lock:
            del self._held[held.run.run_id]

    def start(self, held: HeldRun, local_token: str) -> None:
        """Note a new attempt at a run, the first one or after the last has ended."""
        with self._lock:
            held.local_token, held.is_running = local_token, True

    def end(self, run: Run) -> None:
        """Note that the attempt at `run` has ended."""
        with self._lock:
            if held := self._held.get(run.run_id):
                held.is_running = False

    def ended_token(self, run: Run) -> str | None:
        """The local token of the attempt at `run` that has ended; None where there is none."""
        with self._lock:
            held = self._held.get(run.run_id)
            # An empty token is of no attempt: the run's files are still being fetched.
            return None if held is None or held.is_running else held.local_token or None

    def give_back(self, held: HeldRun) -> None:
        """Release a run's claim, whether its files were sent or not; a no-op where it is not held.

        It is removed first: without heartbeats the claim expires where its release fails.
        """
        with held.write_lock:
            if self.get(held.run) is not held:
                return
            self.remove(held)
            if not held.is_lost:
                self._remote.release(held.run.path, held.remote_claim)

    def give_back_idle(self, limit_s: float) -> None:
        """Release all runs whose attempts are not running, as far as that is done in `limit_s`."""
        # A daemon: a request that hangs must keep neither the caller nor the process.
        thread = threading.Thread(target=self._give_back_idle, name="last releases", daemon=True)
        try:
            start_thread(thread)
        except SystemLimitError as error:
            # They expire, and what was trained is kept.
            _log.warning("claims in the bucket are not given back: %s", error)
            return
        thread.join(limit_s)

    def running(self) -> Sequence[Run]:
        """The runs whose attempts are running here."""
        with self._lock:
            return [h.run for h in self._held.values() if h.is_running and not h.is_lost]

    def beat_all(self) -> None:
        """One heartbeat of every held run; that of one may fail, the rest still get theirs."""
        # A copy: runs are claimed and given back while their heartbeats are sent.
        for held in list(self._held.values()):
            with failures_logged("a heartbeat in the bucket"):
                self._beat(held)

    def _give_back_idle(self) -> None:
        for held in list(self._held.values()):
            if held.is_running:
                continue
            try:
                self.give_back(held)
            except PapergridError as error:
                _log.warning("%s is not given back in the bucket: %s", held.run.run_id, error)

    def _beat(self, held: HeldRun) -> None:
        if held.is_lost:
            return
        with held.write_lock:
            # It may have been given back while this thread waited for the lock.
            if self.get(held.run) is not held:
                return
            held.remote_claim = self._remote.beat(
                held.run.path, held.remote_claim, now=self._clock.now()
            )
            held.is_lost = not self._remote.holds(held.run.path, held.remote_claim)
        if held.is_lost:
            _log.warning(
                "another host has taken over %s: its claim in the bucket is lost", held.run.run_id
            )
