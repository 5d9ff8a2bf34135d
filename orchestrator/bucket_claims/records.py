"""Claims in a bucket, for hosts that share no folder: as `claims`, by conditional writes.

A claim is an object of its own, claim-NNNN.json beside the run's objects, created on the condition
that it is not there; the highest number has the run. Its owner alone replaces it, as heartbeat. The
fence is the same as everywhere: the result's object is created once.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import RecordError
from merge.records.records import Claim, Owner, claim_from_json
from merge.storage.json_files import canonical_json
from merge.storage.paths import RunPaths
from orchestrator.machine.owners import owner_alive
from orchestrator.runs.claims import Busy, Taken, is_live
from orchestrator.s3.bucket import ABSENT, Bucket


@dataclass(frozen=True, slots=True)
class HasResult:
    """The bucket has the run's result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A claim as it was read."""

    claim: Claim
    etag: str
    age_s: float
    """Since its owner wrote it, by the store's own clock."""


class BucketClaims:
    """The claims at one place in a bucket. `run` is a run's path below that place."""

    def __init__(self, bucket: Bucket, clock: Callable[[], float] = time.monotonic) -> None:
        self._bucket = bucket
        self._clock = clock
        self._etags: dict[str, str] = {}
        """Token -> the etag of our own claim's object."""
        self._watched: dict[str, tuple[float, float]] = {}
        """Token -> its heartbeat, and when that was first seen by our own clock."""

    def take(
        self, run: str, owner: Owner, *, now: float, expiry_s: float
    ) -> Taken | Busy | HasResult:
        """Claim a run for `owner`, unless it has its result or a live owner has it."""
        names, result = self._names(run)
        if result in names:
            return HasResult()
        last = self.last(run, names)
        if last and self._is_live(last, owner):
            return Busy(last.claim)
        claim = Claim(
            number=last.claim.number + 1 if last else 1,
            token=secrets.token_hex(8),
            owner=owner,
            heartbeat=now,
            expiry_s=expiry_s,
        )
        if not self._write(run, claim, ABSENT):
            return Busy(self._must_exist(run))
        # The last owner's result may have come between the first look and our claim.
        if self._bucket.head(result) is not None:
            self.release(run, claim)
            return HasResult()
        return Taken(claim)

    def holds(self, run: str, claim: Claim) -> bool:
        """Whether `claim` has the run: it is still the highest, with its own token."""
        last = self.last(run)
        return last is not None and (last.claim.number, last.claim.token) == (
            claim.number,
            claim.token,
        )

    def beat(self, run: str, claim: Claim, *, now: float) -> Claim:
        """Write a sign of life of time `now` and return the claim as written.

        A claim that somebody removed or replaced stays so: `holds` tells.
        """
        beaten = replace(claim, heartbeat=now)
        self._write(run, beaten, self._etags[claim.token])
        return beaten

    def release(self, run: str, claim: Claim) -> None:
        """Give the run back: whoever comes next may take it at once."""
        self._write(run, replace(claim, released=True), self._etags[claim.token])

    def _write(self, run: str, claim: Claim, only_if: str) -> bool:
        """Write our own claim on a condition; False where the object is somebody else's.

        Answers get lost, so what a failed condition means is read from the object.
        """
        name = _name(run, claim.number)
        data = canonical_json(claim.to_json())
        for _ in range(2):
            etag = self._bucket.put(name, data, only_if=only_if)
            if etag is None:
                there = self._read(name)
                if there is None or there.claim.token != claim.token:
                    return False
                etag, only_if = there.etag if there.claim == claim else None, there.etag
            if etag is not None:
                self._etags[claim.token] = etag
                return True
        return False

    def _names(self, run: str) -> tuple[set[str], str]:
        result = RunPaths(Path(run)).result.as_posix()
        return {stored.name for stored in self._bucket.list(f"{run}/")}, result

    def last(self, run: str, names: Collection[str] | None = None) -> Seen | None:
        """The claim that has the run, of the objects `names`, else as listed now."""
        names = self._names(run)[0] if names is None else names
        numbers = [n for name in names if (n := RunPaths(Path(run)).claim_number(name)) is not None]
        return self._read(_name(run, max(numbers))) if numbers else None

    def _read(self, name: str) -> Seen | None:
        answer = self._bucket.get(name)
        if answer is None:
            return None
        data, head = answer
        path = Path(f"{self._bucket.target.url}/{name}")
        try:
            claim = claim_from_json(path, json.loads(data))
        except (ValueError, RecordError) as error:
            raise RecordError(
                f"{self._bucket.target.url}/{name} is no claim ({error}): who has this run is "
                f"unknown, so it is not started; make sure that nobody trains it, then remove that "
                f"object"
            ) from error
        return Seen(claim=claim, etag=head.etag, age_s=head.age_s)

    def _must_exist(self, run: str) -> Claim:
        last = self.last(run)
        if last is None:
            raise RecordError(
                f"the claims in {self._bucket.target.url}/{run} vanish while runs start: stop "
                f"whatever removes them"
            )
        return last.claim

    def _is_live(self, seen: Seen, owner: Owner) -> bool:
        return is_live(
            seen.claim, owner_alive(seen.claim.owner, owner), silence_s=self._silence_s(seen)
        )

    def _silence_s(self, seen: Seen) -> float:
        """As observed from here, or by the store's clock: no two hosts' clocks are compared."""
        now = self._clock()
        beat, since = self._watched.get(seen.claim.token, (None, now))
        if beat != seen.claim.heartbeat:
            since = now
        self._watched[seen.claim.token] = (seen.claim.heartbeat, since)
        return max(now - since, seen.age_s)


def _name(run: str, number: int) -> str:
    return RunPaths(Path(run)).claim(number).as_posix()
