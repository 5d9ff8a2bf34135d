"""The runs that other executors have claimed: when to look at them again.

An executor with `stand_by` looks again until each of them is done or failed, and takes over those
whose owner died or stopped. Without it, it looks once more when it has nothing else to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from merge.errors import StorageError
from merge.records.records import AttemptRecord, Outcome, Owner
from merge.records.sweep import Run
from merge.storage.paths import SweepPaths
from orchestrator.local.settings import LocalSettings
from orchestrator.runs.claims import Busy
from orchestrator.runs.requests import counted_attempts
from orchestrator.runs.retries import Retry, decide


class ClaimedElsewhere:
    """The runs that one executor could not claim."""

    def __init__(self, output: SweepPaths, settings: LocalSettings) -> None:
        self._output = output
        self._settings = settings
        self._clock = settings.clock
        self._begun = self._clock.monotonic() if settings.begun is None else settings.begun
        self._failed_before: dict[str, frozenset[str]] = {}
        """Run id -> tokens of the attempts that had failed when the user gave the command."""
        self._elsewhere: list[tuple[Run, str]] = []
        self._has_looked_again = False
        self._next_look = 0.0

    def __bool__(self) -> bool:
        return bool(self._elsewhere)

    def first_seen(self, run: Run) -> None:
        """Remember which attempts at `run` had failed before the command: they are no obstacle.

        Not those that had failed by now: executors that were started together may be slow to begin.
        """
        if self._settings.stand_by:
            paths, age_s = self._output.run(run.path), self._clock.monotonic() - self._begun
            failed = self._settings.claims.failed_before(paths, age_s)
            self._failed_before[run.run_id] = failed

    def add(self, run: Run, owner: str) -> None:
        # Nothing changes there faster than its owner's heartbeat.
        if not self._elsewhere:
            self._next_look = self._clock.monotonic() + self._settings.heartbeat_s
        self._elsewhere.append((run, owner))

    def due(self) -> list[Run]:
        """The runs to try now, if this executor stands by; removed from this list."""
        if not self._settings.stand_by or self._clock.monotonic() < self._next_look:
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
        if last is None or not last.released or last.owner == self._settings.owner:
            return None
        return self._failure_in(run, claims.history(paths))

    def failure_before_claim(self, run: Run) -> str | None:
        """As `failure_of`, once this executor has claimed `run` and before it starts an attempt.

        An attempt elsewhere may have failed between `failure_of` and the claim. Now none can start,
        and the records of all that ended are in the folder.
        """
        if not self._settings.stand_by:
            return None
        return self._failure_in(run, counted_attempts(self._output.run(run.path)))

    def _failure_in(self, run: Run, history: Sequence[AttemptRecord]) -> str | None:
        last = history[-1] if history else None
        if last is None or not _has_failed(last) or last.owner == self._settings.owner:
            return None
        if last.token in self._failed_before.get(run.run_id, ()):
            return None
        if isinstance(decide(history, self._settings.retries), Retry):
            return None
        return f"on {last.owner.host}: {last.reason}"


def _has_failed(attempt: AttemptRecord) -> bool:
    # A full disk on another host says nothing about this one.
    return attempt.outcome is Outcome.FAILED and attempt.exit_code != StorageError.exit_code


def owner_text(busy: Busy, here: Owner, now: float) -> str:
    """The owner of a claim as text: host, process, age of its heartbeat where that is known.

    `now` is the Unix time on the host of `here`.
    """
    owner, age_s = busy.claim.owner, busy.silence_s
    if age_s is None and (owner.host, owner.boot_id) == (here.host, here.boot_id):
        # Written by the clock that `now` is from; on two hosts there are two.
        age_s = max(0.0, now - busy.claim.heartbeat)
    text = f"on {owner.host} (process {owner.pid})"
    return text if age_s is None else f"{text}, last heartbeat {age_s:.0f} s ago"
