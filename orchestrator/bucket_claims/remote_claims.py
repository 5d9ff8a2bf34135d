"""Claims as objects in a bucket: the same rules as `runs.claims`, by conditional writes.

A claim is an object of its own, claim-NNNN.json beside the run's objects, created on the condition
that it is not there; the highest number has the run. Only its owner replaces it, as heartbeat. The
fence is the same as in a folder: the result's object is created once.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from merge.errors import BucketUnavailableError, PapergridError, RecordError
from merge.records.records import Claim, Owner, claim_from_json
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.json_files import canonical_json, parse_json
from merge.storage.paths import RunPaths
from orchestrator.machine.owners import owner_alive
from orchestrator.runs.claims import Busy, Taken, is_live
from orchestrator.runs.heartbeat_watch import HeartbeatWatch
from orchestrator.s3.bucket import ABSENT, Bucket

_CLOCK = ".papergrid-clock"
_MAX_LOOKS = 5
"""At a claim that seems dead, where each look takes longer than its expiry: a very slow store."""


@dataclass(frozen=True, slots=True)
class HasResult:
    """The bucket has the run's result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimObject:
    """A claim as it was read from the bucket."""

    claim: Claim
    etag: str
    age_s: float
    """Seconds since its owner wrote it, by the time of the store's answer."""
    modified: datetime
    """When its owner wrote it, by the store's own clock."""

    @property
    def answered(self) -> datetime:
        """The time of the store's answer, which a proxy may have changed."""
        return self.modified + timedelta(seconds=self.age_s)


class RemoteClaims:
    """The claims at one place in a bucket. `run` is a run's path below that place."""

    def __init__(self, bucket: Bucket, clock: Clock = SYSTEM_CLOCK) -> None:
        self._bucket = bucket
        self._watch = HeartbeatWatch(clock)
        self._etags: dict[str, str] = {}
        """Token -> the ETag of our own claim's object."""
        self._asked: tuple[datetime, float] | None = None
        """The store's time, and ours when it was asked for it, monotonic."""

    def take(
        self, run: str, owner: Owner, *, now: float, expiry_s: float
    ) -> Taken | Busy | HasResult:
        """Claim a run for `owner`, unless it has its result or a live owner has it.

        `now` is in Unix seconds; without a heartbeat for `expiry_s`, other hosts may take the run
        over. RecordError where the highest claim is unreadable.
        """
        names, result = self._names(run)
        if result in names:
            return HasResult()
        last = self._free_or_busy(run, names, owner)
        if isinstance(last, Busy):
            return last
        claim = Claim(
            number=last.claim.number + 1 if last else 1,
            token=secrets.token_hex(8),
            owner=owner,
            heartbeat=now,
            expiry_s=expiry_s,
        )
        if not self._write(run, claim, ABSENT):
            return Busy(self._require_last(run))
        try:
            # The last owner's result may have come between the listing and our claim.
            has_result = self._bucket.head(result) is not None
        except BaseException:
            with suppress(PapergridError):
                self.release(run, claim)
            raise
        if has_result:
            self.release(run, claim)
            return HasResult()
        return Taken(claim)

    def holds(self, run: str, claim: Claim) -> bool:
        """Whether `claim` has the run: it is still the highest, with its own token."""
        names, _ = self._names(run)
        ours = _object_name(run, claim.number)
        if ours not in names and self._bucket.head(ours) is not None:
            # Believed, the listing would throw aside what this host has trained.
            raise BucketUnavailableError(
                f"a listing of {self._bucket.url(run)} leaves out {ours}, which is there"
            )
        last = self.last(run, names)
        return last is not None and (last.claim.number, last.claim.token) == (
            claim.number,
            claim.token,
        )

    def beat(self, run: str, claim: Claim, *, now: float) -> Claim:
        """Write a heartbeat of Unix time `now`; return the claim as written.

        Does not restore a claim that was removed or replaced meanwhile: ask `holds`.
        """
        beaten = replace(claim, heartbeat=now)
        self._write(run, beaten, self._etags[claim.token])
        return beaten

    def release(self, run: str, claim: Claim) -> None:
        """Give the run back: the next host may take it at once."""
        self._write(run, replace(claim, released=True), self._etags[claim.token])

    def last(self, run: str, names: Collection[str] | None = None) -> ClaimObject | None:
        """The claim that has the run, or had it last; None where it was never claimed.

        `names` are the run's objects; without them they are listed now.
        """
        names = self._names(run)[0] if names is None else names
        numbers = [n for name in names if (n := RunPaths(Path(run)).claim_number(name)) is not None]
        return self._read(_object_name(run, max(numbers))) if numbers else None

    def _silence_s(self, last: ClaimObject, read_at: float) -> float:
        """Seconds without a heartbeat: as observed from here, or by the store's own clock.

        The time of an answer may be that of a proxy. So before an owner counts as dead, an object
        is written, and both times of writing are compared: no two hosts' clocks ever are.
        """
        observed_s = self._watch.observed_s(last.claim, read_at)
        if observed_s >= last.claim.expiry_s or last.age_s < last.claim.expiry_s:
            return max(observed_s, last.age_s)
        time = self._ask_time()
        if time is None:
            return observed_s
        return max(observed_s, (time - last.modified).total_seconds())

    def store_now(self) -> datetime | None:
        """The store's own time: asked for once, from then on counted by our monotonic clock.

        None where something removes the object that asks for it.
        """
        if self._asked is None:
            began = self._watch.clock.monotonic()
            time = self._ask_time()
            if time is None:
                return None
            self._asked = time, began
        time, began = self._asked
        return time + timedelta(seconds=self._watch.clock.monotonic() - began)

    def _ask_time(self) -> datetime | None:
        self._bucket.put(_CLOCK, b"papergrid asks for the time of this store\n")
        written = self._bucket.head(_CLOCK)
        return written.modified if written else None

    def _write(self, run: str, claim: Claim, only_if: str) -> bool:
        """Write our own claim on a condition; False where the object is another owner's.

        After a lost answer and a retry, "condition not met" may stand for our own first attempt, so
        the object is read.
        """
        name = _object_name(run, claim.number)
        data = canonical_json(claim.to_json())
        for _ in range(2):
            etag = self._bucket.put(name, data, only_if=only_if)
            if etag is None:
                found = self._read(name)
                if found is None or found.claim.token != claim.token:
                    return False
                # Our token with an older heartbeat: an earlier write got through, this one did not.
                etag, only_if = found.etag if found.claim == claim else None, found.etag
            if etag is not None:
                self._etags[claim.token] = etag
                return True
        return False

    def _names(self, run: str) -> tuple[set[str], str]:
        """The names of the run's objects, and that of its result."""
        result = RunPaths(Path(run)).result.as_posix()
        return {listed.name for listed in self._bucket.list(f"{run}/")}, result

    def _read(self, name: str) -> ClaimObject | None:
        answer = self._bucket.get(name)
        if answer is None:
            return None
        data, head = answer
        url = self._bucket.url(name)
        try:
            claim = claim_from_json(url, parse_json(url, data))
        except RecordError as error:
            raise RecordError(
                f"{error}: which host has this run is unknown, so it is not started; make sure "
                f"that no host trains it, then remove {url}"
            ) from error
        return ClaimObject(claim=claim, etag=head.etag, age_s=head.age_s, modified=head.modified)

    def _require_last(self, run: str) -> Claim:
        last = self.last(run)
        if last is None:
            raise RecordError(
                f"the claims in {self._bucket.url(run)} vanish while runs start: stop the process "
                f"or lifecycle rule that removes them"
            )
        return last.claim

    def _free_or_busy(
        self, run: str, names: Collection[str] | None, owner: Owner
    ) -> ClaimObject | Busy | None:
        """The highest claim where `owner` may take the run after it, else who has the run."""
        clock = self._watch.clock
        for _ in range(_MAX_LOOKS):
            read_at = clock.monotonic()
            last = self.last(run, names)
            if last is None or last.claim.released:
                return last
            alive = owner_alive(last.claim.owner, owner)
            silence_s = self._silence_s(last, read_at)
            if is_live(last.claim, alive, silence_s=silence_s):
                return Busy(last.claim, silence_s)
            # This process may have been stopped since it read the claim, while the owner lived on.
            if alive is False or clock.monotonic() - read_at < last.claim.expiry_s:
                return last
            names = None
        return last


def _object_name(run: str, number: int) -> str:
    return RunPaths(Path(run)).claim(number).as_posix()
