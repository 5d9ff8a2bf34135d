"""The seam between an executor and what tells it whose a run is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from merge.files import fresh_names
from merge.paths import RunPaths
from merge.records import EXPIRY_S, AttemptRecord, Claim, Owner
from orchestrator import claims
from orchestrator.claims import Busy, Finished, Taken
from orchestrator.requests import counted_attempts
from orchestrator.watch import Watch


class Claims(Protocol):
    """As the functions of `orchestrator.claims`, which work on a folder."""

    def take(
        self,
        paths: RunPaths,
        config_hash: str,
        owner: Owner,
        *,
        now: float,
        expiry_s: float = EXPIRY_S,
        watch: Watch | None = None,
    ) -> Taken | Busy | Finished: ...

    def holds(self, paths: RunPaths, claim: Claim) -> bool:
        """As far as is known here, at once."""
        ...

    def may_commit(self, paths: RunPaths, claim: Claim) -> bool:
        """As `holds`, asked anew wherever claims are kept: the last word before a commit."""
        ...

    def beat(self, paths: RunPaths, claim: Claim, *, now: float) -> Claim: ...

    def release(self, paths: RunPaths, claim: Claim) -> None: ...

    def num_ended(self, paths: RunPaths) -> int:
        """The highest claim that has ended; asked before any run is taken."""
        ...

    def last(self, paths: RunPaths) -> Claim | None:
        """The claim that has the run, or had it last."""
        ...

    def history(self, paths: RunPaths, last: Claim) -> Sequence[AttemptRecord]:
        """The attempts that count, up to that of the claim `last`; empty where it left none."""
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
        watch: Watch | None = None,
    ) -> Taken | Busy | Finished:
        return claims.take(paths, config_hash, owner, now=now, expiry_s=expiry_s, watch=watch)

    def holds(self, paths: RunPaths, claim: Claim) -> bool:
        return claims.holds(paths, claim)

    may_commit = holds

    def beat(self, paths: RunPaths, claim: Claim, *, now: float) -> Claim:
        return claims.beat(paths, claim, now=now)

    def release(self, paths: RunPaths, claim: Claim) -> None:
        claims.release(paths, claim)

    def num_ended(self, paths: RunPaths) -> int:
        last = claims.last_claim(paths)
        return last.number - (not last.released) if last else 0

    def last(self, paths: RunPaths) -> Claim | None:
        return claims.last_claim(paths)

    def history(self, paths: RunPaths, last: Claim) -> Sequence[AttemptRecord]:
        fresh_names(paths.attempt(last.number).root)
        history = counted_attempts(paths)
        return history if history and history[-1].number == last.number else ()
