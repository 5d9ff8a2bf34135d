"""Which runs a live process trains in an output folder, without believing any other host's clock.

Time stamps of files are no proof: some file systems take them from the host that writes. So the
claim of another host is watched from here: a new heartbeat shows a live owner, and only silence
for as long as the claim itself allows shows a dead one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from merge.records.records import Claim
from merge.records.sweep import Run
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import owner_alive, this_owner
from orchestrator.runs.claims import last_claim

LONGEST_WATCH_S = 120.0
"""A claim that may be silent for longer than this is not waited for."""
_POLL_S = 0.5

_log = logging.getLogger(__name__)


class Activity(Enum):
    """Whether a live process trains a run in this folder."""

    RUNNING = "running"
    IDLE = "idle"
    UNKNOWN = "unknown"
    """Another host has claimed it, and was not watched for long enough."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """A claim, and when it was first seen like this."""

    claim: Claim
    since: float
    """Monotonic."""
    has_changed: bool
    """Whether it was seen with another heartbeat before."""

    def activity(self, now: float) -> Activity:
        if now - self.since >= self.claim.expiry_s:
            return Activity.IDLE
        return Activity.RUNNING if self.has_changed else Activity.UNKNOWN


class ClaimWatch:
    """The claims in one output folder, as seen from here. Safe for many threads."""

    def __init__(self, output: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self._output = output
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[str, _Sight] = {}
        """By run id, of claims by other hosts."""

    def look(self, run: Run) -> Activity:
        """Whether `run` is running here, as far as is known now. RecordError: a damaged claim."""
        # Before the claim is read: this process may be stopped in between.
        read_at = self._clock.monotonic()
        claim = last_claim(SweepPaths(self._output).run(run.path))
        if claim is None or claim.released:
            return Activity.IDLE
        alive = owner_alive(claim.owner, this_owner())
        if alive is not None:
            return Activity.RUNNING if alive else Activity.IDLE
        with self._lock:
            seen = self._seen.get(run.run_id)
            if seen is None or seen.claim != claim:
                seen = _Sight(claim, read_at, has_changed=seen is not None)
                self._seen[run.run_id] = seen
        return seen.activity(read_at)

    def watch(self, runs: Sequence[Run]) -> dict[str, Activity]:
        """The activity of each run by its id, after watching those that are unknown.

        UNKNOWN only where a claim may be silent for longer than LONGEST_WATCH_S.
        """
        found = {run.run_id: self.look(run) for run in runs}
        if left := self._worth_watching(runs, found):
            _log.warning(
                "other hosts have claimed runs that differ here (%d): their heartbeats are watched "
                "for up to %.0f s, to learn which of them are running",
                len(left),
                max(self._seen[run.run_id].claim.expiry_s for run in left),
            )
        end = self._clock.monotonic() + LONGEST_WATCH_S
        while left and self._clock.monotonic() < end:
            self._clock.sleep(_POLL_S)
            found.update({run.run_id: self.look(run) for run in left})
            left = self._worth_watching(left, found)
        return found

    def _worth_watching(self, runs: Sequence[Run], found: Mapping[str, Activity]) -> list[Run]:
        return [
            run
            for run in runs
            if found[run.run_id] is Activity.UNKNOWN
            and self._seen[run.run_id].claim.expiry_s <= LONGEST_WATCH_S
        ]

    def reason(self, run: Run, activity: Activity) -> str:
        """Why the files of a run that is not idle are left as they are."""
        if activity is Activity.RUNNING:
            return "a live process trains this run in this folder: pull it later"
        claim = self._seen[run.run_id].claim
        path = SweepPaths(self._output).run(run.path).claim(claim.number)
        return (
            f"{claim.owner.host} may be training this run in this folder (its claim may be silent "
            f"for {claim.expiry_s:.0f} s): pull it later, or remove {path} if that host is gone"
        )
