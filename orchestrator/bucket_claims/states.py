"""The states of runs that hosts share through a bucket, as its objects tell. Reads only."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import RecordError
from merge.records.records import AttemptRecord, Claim, attempt_from_json
from merge.records.sweep import Run, Sweep
from merge.results.documents import contribution_of_view
from merge.results.unite import Contribution
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.bucket_claims.records import BucketClaims
from orchestrator.machine.owners import owner_alive, this_owner
from orchestrator.runs.progress import Progress, read_progress
from orchestrator.runs.states import RunFacts, RunState, State, derive_state
from orchestrator.s3.bucket import Bucket, Stored
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.files import RunNames, owner_of, runs_by_path
from orchestrator.sync.merged_view import MERGED
from orchestrator.sync.plan import plan_needed_in


@dataclass(frozen=True, slots=True, kw_only=True)
class InBucket:
    """What a place in a bucket holds at one moment."""

    part: Contribution
    """Its plan, and the results that its merged JSON has."""
    states: Mapping[str, RunState]
    """By id, of the runs that somebody has claimed or finished."""


def read_bucket(target: BucketTarget, now: float) -> InBucket:
    """What `target` tells at Unix time `now`. IncompleteError where it holds no plan."""
    bucket = Bucket(target)
    with tempfile.TemporaryDirectory() as folder:
        sweep = plan_needed_in(bucket, SweepPaths(Path(folder)))
    # Listed last: what the merged JSON has is there, and more may be.
    part = _merged(bucket, sweep)
    by_path = runs_by_path(sweep)
    found: dict[str, list[Stored]] = {}
    for stored in bucket.list():
        if run := owner_of(stored.name, by_path):
            found.setdefault(run.run_id, []).append(stored)
    begun = [run for run in sweep.runs if run.run_id in found]
    look = _Look(bucket, now)
    with ThreadPoolExecutor(target.max_concurrency) as pool:
        states = list(pool.map(lambda run: look.state(run, found[run.run_id]), begun))
    return InBucket(
        part=part,
        states={run.run_id: state for run, state in zip(begun, states, strict=True) if state},
    )


def _merged(bucket: Bucket, sweep: Sweep) -> Contribution:
    answer = bucket.get(MERGED)
    if answer is None:
        return Contribution(sweep=sweep)
    place = Path(f"{bucket.target.url}/{MERGED}")
    try:
        document = json.loads(answer[0])
    except ValueError as error:
        raise RecordError(f"{place} is no JSON ({error}): `replicate sync push` mends it") from (
            error
        )
    return replace(contribution_of_view(place, document), sweep=sweep)


@dataclass(frozen=True, slots=True)
class _Look:
    bucket: Bucket
    now: float

    def state(self, run: Run, stored: Sequence[Stored]) -> RunState | None:
        """The state of `run`, whose objects are `stored`; None where nobody ever claimed it."""
        names = {each.name: each for each in stored}
        if RunNames(run).result in names:
            return RunState(state=State.DONE)
        try:
            last = BucketClaims(self.bucket).last(run.path, names)
        except RecordError as error:
            return RunState(state=State.UNKNOWN, reason=str(error))
        if last is None:
            return None
        # No two hosts' clocks are compared: how old the claim is, the store knows.
        claim = replace(last.claim, heartbeat=self.now - last.age_s)
        attempt = _attempt_of(claim, attempts_in(self.bucket, run, names))
        facts = RunFacts(
            claim=claim,
            owner_alive=None if claim.released else owner_alive(claim.owner, this_owner()),
            attempt=attempt,
            progress=self._progress(run, attempt),
            last_output=max(
                (each.modified.timestamp() for each in stored if _is_of_trainer(run, each.name)),
                default=None,
            ),
        )
        return derive_state(facts, self.now)

    def _progress(self, run: Run, attempt: AttemptRecord | None) -> Progress | None:
        """How far a going attempt was when its files were last sent."""
        if attempt is None or attempt.outcome is not None:
            return None
        name = RunPaths(Path(run.path)).attempt(attempt.number).events.as_posix()
        answer = self.bucket.get(name)
        if answer is None:
            return None
        with tempfile.NamedTemporaryFile() as file:
            file.write(answer[0])
            file.flush()
            return read_progress(Path(file.name))


def _is_of_trainer(run: Run, name: str) -> bool:
    return RunPaths(Path(run.path)).claim_number(name) is None


def _attempt_of(claim: Claim, attempts: Sequence[AttemptRecord]) -> AttemptRecord | None:
    """The attempt that goes on under `claim`, or that was the last before it was given back."""
    last = attempts[-1] if attempts else None
    if last is None or claim.released:
        return last
    # What its owner has begun since may not have been sent yet.
    return last if last.owner == claim.owner and last.outcome is None else None


def attempts_in(
    bucket: Bucket, run: Run, names: Iterable[str] | None = None
) -> list[AttemptRecord]:
    """Every attempt at `run` that was sent, the oldest first; unreadable records are none.

    `names` are the run's objects; without them they are listed.
    """
    if names is None:
        names = [stored.name for stored in bucket.list(f"{run.path}/")]
    paths = RunPaths(Path(run.path))
    numbers = sorted(n for name in names if (n := paths.attempt_number(name)) is not None)
    found = (_read(bucket, paths.attempt(number).record.as_posix()) for number in numbers)
    return [record for record in found if record]


def _read(bucket: Bucket, name: str) -> AttemptRecord | None:
    answer = bucket.get(name)
    if answer is None:
        return None
    try:
        return attempt_from_json(f"{bucket.target.url}/{name}", json.loads(answer[0]))
    except (ValueError, RecordError):
        return None
