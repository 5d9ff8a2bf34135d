"""The runs that other executors have claimed: when to look at them again.

An executor with `stand_by` looks again until each of them is done or failed, and takes over those
whose owner died or stopped. Without it, it looks once more when it has nothing else to do.
"""

from __future__ import annotations

import time

from merge.errors import StorageError
from merge.records.records import AttemptRecord, Claim, Outcome
from merge.records.sweep import Run
from merge.storage.paths import SweepPaths
from orchestrator.local.settings import LocalSettings
from orchestrator.runs.retries import Again, decide


class ClaimedElsewhere:
    """The runs that one executor could not claim."""

    def __init__(self, output: SweepPaths, settings: LocalSettings) -> None:
        self._output = output
        self._settings = settings
        self._first: dict[str, int] = {}
        """Run id -> the highest claim that had ended when this executor first saw the run."""
        self._elsewhere: list[tuple[Run, str]] = []
        self._has_looked_again = False
        self._next_look = 0.0

    def __bool__(self) -> bool:
        return bool(self._elsewhere)

    def first_seen(self, run: Run) -> None:
        """Remember which attempts at `run` have ended: only later ones count in `failure_of`."""
        if self._settings.stand_by:
            paths = self._output.run(run.path)
            self._first[run.run_id] = self._settings.claims.num_ended(paths)

    def add(self, run: Run, owner: str) -> None:
        # Nothing changes there faster than its owner's heartbeat.
        if not self._elsewhere:
            self._next_look = time.monotonic() + self._settings.heartbeat_s
        self._elsewhere.append((run, owner))

    def due(self) -> list[Run]:
        """The runs to try now, if this executor stands by; removed from this list."""
        if not self._settings.stand_by or time.monotonic() < self._next_look:
            return []
        return [run for run, _ in self.drain()]

    def last_look(self) -> list[Run]:
        """The runs to try before this executor ends, once."""
        if self._has_looked_again:
            return []
        self._has_looked_again = True
        return [run for run, _ in self.drain()]

    def drain(self) -> list[tuple[Run, str]]:
        """All runs that other executors have, and which ones; removed from this list."""
        found, self._elsewhere = self._elsewhere, []
        return found

    def failure_of(self, run: Run) -> str | None:
        """Why `run` failed elsewhere while this executor worked; None where it did not.

        A run that fails on one host would fail on each of them: not every host tries it in turn,
        unless a retry rule allows one more attempt. RecordError where its records are unreadable,
        StorageError where the bucket that holds them does not answer.
        """
        # Without --stand-by a command tries a failed run once, wherever it failed (docs/s3.md).
        if not self._settings.stand_by:
            return None
        paths, claims = self._output.run(run.path), self._settings.claims
        last = claims.last(paths)
        if last is None or not self._is_news(run, last):
            return None
        history = claims.history(paths, last)
        if not history or not _has_failed(history[-1]):
            return None
        if isinstance(decide(history, self._settings.retries), Again):
            return None
        return f"on {last.owner.host}: {history[-1].reason}"

    def _is_news(self, run: Run, last: Claim) -> bool:
        # This executor's own attempts are judged where they end. Those that ended before it saw the
        # run are what its command is to try again.
        is_ours = last.owner == self._settings.owner
        return last.released and not is_ours and last.number > self._first.get(run.run_id, 0)


def _has_failed(attempt: AttemptRecord) -> bool:
    # A full disk on another host says nothing about this one.
    return attempt.outcome is Outcome.FAILED and attempt.exit_code != StorageError.exit_code


def owner_text(claim: Claim) -> str:
    """The owner of `claim` as text: host, process, age of its heartbeat."""
    owner = claim.owner
    # For display only: two hosts' clocks may differ, and no decision uses this age.
    age_s = max(0.0, time.time() - claim.heartbeat)
    return f"on {owner.host} (process {owner.pid}), last heartbeat {age_s:.0f} s ago"
