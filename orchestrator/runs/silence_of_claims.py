"""How long claims of other hosts have been silent; no two hosts' clocks are compared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from merge.records.records import Claim
from merge.storage.nfs import age_s
from merge.storage.paths import RunPaths


class Watch:
    """Remembers when it last saw a sign of life in each claim that it was asked about."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, float]] = {}
        """Token -> its heartbeat, and when that was first seen by our own clock."""

    def silence_s(self, paths: RunPaths, claim: Claim) -> float:
        """Seconds without a sign of life in `claim`.

        As observed from here, or by the clock of the file system if that tells of more: the latter
        alone tells a newcomer of an owner that died yesterday.
        """
        now = self._clock()
        beat, since = self._seen.get(claim.token, (None, now))
        if beat != claim.heartbeat:
            since = now
        self._seen[claim.token] = (claim.heartbeat, since)
        try:
            return max(now - since, age_s(paths.claim(claim.number)))
        except FileNotFoundError:
            # Its owner gave the run back and could not write so: see `claims.release`.
            return math.inf
