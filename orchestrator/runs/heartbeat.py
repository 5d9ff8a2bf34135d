"""The executor's heartbeat: a thread that rewrites the claims it holds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from merge.errors import PapergridError
from merge.records.records import Claim
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.paths import RunPaths
from orchestrator.machine.repeating_thread import RepeatingThread, failures_logged
from orchestrator.runs.claim_places import Claims, FolderClaims
from orchestrator.runs.requests import cancellation

_log = logging.getLogger(__name__)


class Heartbeat:
    """Rewrites every held claim each `interval_s` seconds; reports lost claims and cancelled runs.

    `on_lost(token)` is called from the thread at each heartbeat of a claim that another has
    overtaken, `on_cancelled(token)` at each heartbeat of one whose run is to be cancelled.
    """

    def __init__(
        self,
        interval_s: float,
        on_lost: Callable[[str], None],
        on_cancelled: Callable[[str], None] = lambda _token: None,
        claims: Claims | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._claims = claims or FolderClaims()
        self._on_lost = on_lost
        self._on_cancelled = on_cancelled
        self._clock = clock
        self._held: dict[str, tuple[RunPaths, Claim]] = {}
        self._unreleased: list[tuple[RunPaths, Claim]] = []
        """Claims that could not be released yet: as long as this process lives, they keep runs."""
        self._lock = threading.Lock()
        self._thread = RepeatingThread("heartbeat", interval_s, self.beat_all)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.stop()
        self._release_again()

    def hold(self, paths: RunPaths, claim: Claim) -> None:
        """Keep `claim` alive from now on."""
        with self._lock:
            self._held[claim.token] = (paths, claim)

    def let_go(self, token: str) -> None:
        """Release the claim, at a later heartbeat where the file system refuses now."""
        # Under the lock, so that no heartbeat can follow the release.
        with self._lock:
            paths, claim = self._held.pop(token)
            if not self._release(paths, claim):
                self._unreleased.append((paths, claim))

    def _release(self, paths: RunPaths, claim: Claim) -> bool:
        try:
            self._claims.release(paths, claim)
        except (PapergridError, OSError) as error:
            _log.warning("%s stays claimed for now: %s", paths.root, error)
            return False
        return True

    def _release_again(self) -> None:
        with self._lock:
            self._unreleased = [each for each in self._unreleased if not self._release(*each)]

    def beat_all(self) -> None:
        """One heartbeat of every held claim; that of one may fail, the rest still get theirs."""
        self._release_again()
        for token in list(self._held):
            with failures_logged("a heartbeat"):
                self._beat(token)

    def _beat(self, token: str) -> None:
        with self._lock:
            if token not in self._held:
                return
            paths, claim = self._held[token]
            # Where heartbeats fail (a quota that only this user has reached) others take the run
            # over: that is asked all the same.
            with failures_logged("a heartbeat"):
                self._held[token] = (paths, self._claims.beat(paths, claim, now=self._clock.now()))
            lost = not self._claims.holds(paths, claim)
            if lost:
                _log.warning("claim %s of %s was lost", claim.number, paths.root)
        # Outside of the lock: the executor may answer with `let_go`.
        if lost:
            self._on_lost(token)
        elif cancellation(paths):
            self._on_cancelled(token)
