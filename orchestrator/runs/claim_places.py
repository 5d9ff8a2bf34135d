"""Where claims are kept: a seam with one form for a shared folder and one for a bucket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from merge.records.records import EXPIRY_S, AttemptRecord, Claim, Outcome, Owner
from merge.storage.nfs import clock_of, fresh_names
from merge.storage.paths import RunPaths
from orchestrator.runs.claims import (
    Busy,
    Finished,
    Taken,
    beat,
    holds,
    last_claim,
    release,
    take,
)
from orchestrator.runs.heartbeat_watch import HeartbeatWatch
from orchestrator.runs.requests import all_attempts, counted_attempts

_LONGEST_TICK_S = 1.0
"""Some file servers and all object stores count whole seconds."""


class Claims(Protocol):
    """Where claims are kept: in the output folder alone, or in a bucket too."""

    def take(
        self,
        paths: RunPaths,
        config_hash: str,
        owner: Owner,
        *,
        now: float,
        expiry_s: float = EXPIRY_S,
        watch: HeartbeatWatch | None = None,
    ) -> Taken | Busy | Finished: ...

    def holds(self, paths: RunPaths, claim: Claim) -> bool:
        """Whether `claim` has the run, as far as this host knows; never waits for another."""
        ...

    def may_commit(self, paths: RunPaths, claim: Claim) -> bool:
        """As `holds`, but every place that keeps claims is asked: decides about a commit."""
        ...

    def beat(self, paths: RunPaths, claim: Claim, *, now: float) -> Claim: ...

    def release(self, paths: RunPaths, claim: Claim) -> None: ...

    def failed_before(self, paths: RunPaths, command_age_s: float) -> frozenset[str]:
        """The tokens of attempts that had failed when a command was given, so many seconds ago.

        Asked before any run is taken. Ages are by the clock of the file system or the store.
        """
        ...

    def last(self, paths: RunPaths) -> Claim | None:
        """The claim that has the run, or had it last."""
        ...

    def history(self, paths: RunPaths) -> Sequence[AttemptRecord]:
        """The attempts of all hosts that count, the oldest first."""
        ...


class FolderClaims:
    """Claims in the output folder alone."""

    def take(
        self,
        paths: RunPaths,
        config_hash: str,
        owner: Owner,
        *,
        now: float,
        expiry_s: float = EXPIRY_S,
        watch: HeartbeatWatch | None = None,
    ) -> Taken | Busy | Finished:
        return take(paths, config_hash, owner, now=now, expiry_s=expiry_s, watch=watch)

    def holds(self, paths: RunPaths, claim: Claim) -> bool:
        return holds(paths, claim)

    may_commit = holds

    def beat(self, paths: RunPaths, claim: Claim, *, now: float) -> Claim:
        return beat(paths, claim, now=now)

    def release(self, paths: RunPaths, claim: Claim) -> None:
        release(paths, claim)

    def failed_before(self, paths: RunPaths, command_age_s: float) -> frozenset[str]:
        failed = [each for each in all_attempts(paths) if each.outcome is Outcome.FAILED]
        # Asking for the file system's time costs a file: once a run, and of few runs.
        now = clock_of(paths.root, paths.disk) if failed else 0.0
        return frozenset(
            each.token
            for each in failed
            if is_older(now - _written(paths, each.number), command_age_s)
        )

    def last(self, paths: RunPaths) -> Claim | None:
        return last_claim(paths)

    def history(self, paths: RunPaths) -> Sequence[AttemptRecord]:
        for number in paths.claim_numbers()[-1:]:
            fresh_names(paths.attempt(number).root, paths.disk)
        return counted_attempts(paths)


def _written(paths: RunPaths, number: int) -> float:
    return paths.disk.status(paths.attempt(number).record).st_mtime


def is_older(age_s: float, command_age_s: float) -> bool:
    """Whether what was written `age_s` seconds ago is older than a command.

    In doubt it is: a person who gives a command again wants the run tried again.
    """
    return age_s + _LONGEST_TICK_S >= command_age_s
