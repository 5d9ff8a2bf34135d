"""The executor's signs of life: a thread that rewrites the claims it holds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from merge.records.records import Claim
from merge.storage.paths import RunPaths
from orchestrator.runs.claims import Claims, FolderClaims
from orchestrator.runs.requests import cancellation

_log = logging.getLogger(__name__)


class Heartbeat:
    """Rewrites every held claim each `interval_s` seconds; tells of claims lost to others.

    `on_lost(token)` is called from the thread at each beat of a claim that another has overtaken,
    `on_cancelled(token)` at each beat of one whose run is to be cancelled.
    """

    def __init__(
        self,
        interval_s: float,
        on_lost: Callable[[str], None],
        on_cancelled: Callable[[str], None] = lambda _token: None,
        claims: Claims | None = None,
    ) -> None:
        self._interval_s = interval_s
        self._claims = claims or FolderClaims()
        self._on_lost = on_lost
        self._on_cancelled = on_cancelled
        self._held: dict[str, tuple[RunPaths, Claim]] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def hold(self, paths: RunPaths, claim: Claim) -> None:
        """Keep `claim` alive from now on."""
        with self._lock:
            self._held[claim.token] = (paths, claim)

    def let_go(self, token: str) -> None:
        """Release the claim. Under the lock, so that no beat can follow the release."""
        with self._lock:
            paths, claim = self._held.pop(token)
            self._claims.release(paths, claim)

    def _run(self) -> None:
        while not self._end.wait(self._interval_s):
            for token in list(self._held):
                try:
                    self._beat(token)
                except Exception:  # noqa: BLE001
                    # A file system that is away for a minute must not end the signs of life.
                    _log.exception("no sign of life could be written; it is tried again")

    def _beat(self, token: str) -> None:
        with self._lock:
            if token not in self._held:
                return
            paths, claim = self._held[token]
            self._held[token] = (paths, self._claims.beat(paths, claim, now=time.time()))
            lost = not self._claims.holds(paths, claim)
            if lost:
                _log.warning("claim %s of %s was lost", claim.number, paths.root)
        if lost:
            self._on_lost(token)
        elif cancellation(paths):
            self._on_cancelled(token)
