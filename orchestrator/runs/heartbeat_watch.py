"""How long claims of other hosts had no heartbeat; no two hosts' clocks are compared."""

from __future__ import annotations

import math

from merge.records.records import Claim
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.nfs import age_s
from merge.storage.paths import RunPaths


class HeartbeatWatch:
    """Remembers when it last saw a new heartbeat in each claim that it was asked about."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self._seen: dict[str, tuple[float, float]] = {}
        """Token -> its heartbeat, and when that was first seen by our own clock."""

    def silence_s(self, paths: RunPaths, claim: Claim, read_at: float) -> float:
        """Seconds without a new heartbeat in `claim`, which was read at `read_at`, monotonic.

        The longer of two measures: as observed from here, and by the clock of the file system. The
        first is right also where files carry the time of a wrong clock; the second alone shows a
        process that has just started that an owner died yesterday.
        """
        observed_s = self.observed_s(claim, read_at)
        try:
            return max(observed_s, age_s(paths.claim(claim.number), paths.disk))
        except FileNotFoundError:
            # Its owner released the run on a full disk: see `claims.release`.
            return math.inf

    def observed_s(self, claim: Claim, read_at: float) -> float:
        """Seconds from the first sight of the newest heartbeat in `claim` to its last reading.

        Up to `read_at`, just before the claim was read, and not up to now: this process may have
        been stopped since, while the owner lived on.
        """
        beat, since = self._seen.get(claim.token, (None, read_at))
        # Only a change counts, not to what: the owner's clock may have been set back.
        if beat != claim.heartbeat:
            since = read_at
        self._seen[claim.token] = (claim.heartbeat, since)
        return read_at - since
