"""The states of runs that hosts share through a bucket, derived from its objects. Reads only."""

from __future__ import annotations

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
from merge.storage.json_files import parse_json
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.bucket_claims.remote_claims import RemoteClaims
from orchestrator.machine.owners import owner_alive, this_owner
from orchestrator.runs.progress import Progress, read_progress
from orchestrator.runs.states import RunFacts, RunState, State, derive_state
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.objects import ListedObject
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.merged_view import MERGED_VIEW
from orchestrator.sync.plan import require_plan
from orchestrator.sync.selection import RunNames, run_of_name, runs_by_path


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketState:
    """What a place in a bucket holds at one moment."""

    contribution: Contribution
    """Its plan, and the results in its merged JSON."""
    states: Mapping[str, RunState]
    """By run id, of the runs that were claimed or finished."""


def read_bucket_state(target: BucketTarget, now: float) -> BucketState:
    """The state of `target` at Unix time `now`. IncompleteError where it holds no plan."""
    bucket = Bucket(target)
    with tempfile.TemporaryDirectory() as folder:
        sweep = require_plan(bucket, SweepPaths(Path(folder)))
    # Listed after the merged JSON was read: a result in it is in the listing too.
    contribution = _merged(bucket, sweep)
    by_path = runs_by_path(sweep)
    found: dict[str, list[ListedObject]] = {}
    for listed in bucket.list():
        if run := run_of_name(listed.name, by_path):
            found.setdefault(run.run_id, []).append(listed)
    begun = [run for run in sweep.runs if run.run_id in found]
    reader = _StateReader(bucket, now)
    with ThreadPoolExecutor(target.max_concurrency) as pool:
        states = list(pool.map(lambda run: reader.state(run, found[run.run_id]), begun))
    return BucketState(
        contribution=contribution,
        states={run.run_id: state for run, state in zip(begun, states, strict=True) if state},
    )


def _merged(bucket: Bucket, sweep: Sweep) -> Contribution:
    answer = bucket.get(MERGED_VIEW)
    if answer is None:
        return Contribution(sweep=sweep)
    url = bucket.url(MERGED_VIEW)
    try:
        document = parse_json(url, answer[0])
    except RecordError as error:
        raise RecordError(f"{error}: `replicate sync push` writes it anew") from error
    return replace(contribution_of_view(Path(url), document), sweep=sweep)


@dataclass(frozen=True, slots=True)
class _StateReader:
    bucket: Bucket
    now: float
    """Unix seconds."""

    def state(self, run: Run, objects: Sequence[ListedObject]) -> RunState | None:
        """The state of `run`, which has these objects; None where it was never claimed."""
        names = {listed.name: listed for listed in objects}
        if RunNames(run).result in names:
            return RunState(state=State.DONE)
        try:
            last = RemoteClaims(self.bucket).last(run.path, names)
        except RecordError as error:
            return RunState(state=State.UNKNOWN, reason=str(error))
        if last is None:
            return None
        # The heartbeat is in the owner's time. The claim's age by the store's clock takes its
        # place: no two hosts' clocks are compared.
        claim = replace(last.claim, heartbeat=self.now - last.age_s)
        attempt = _attempt_of(claim, attempts_in(self.bucket, run, names))
        facts = RunFacts(
            claim=claim,
            owner_alive=None if claim.released else owner_alive(claim.owner, this_owner()),
            attempt=attempt,
            progress=self._progress(run, attempt),
            last_output=max(
                (each.modified.timestamp() for each in objects if _is_of_trainer(run, each.name)),
                default=None,
            ),
        )
        return derive_state(facts, self.now)

    def _progress(self, run: Run, attempt: AttemptRecord | None) -> Progress | None:
        """The progress of a running attempt when its files were last sent."""
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
    """The attempt that runs under `claim`, or the last one before it was given back."""
    last = attempts[-1] if attempts else None
    if last is None or claim.released:
        return last
    # Records are sent with the checkpoints only: that of a new attempt may still be missing, and
    # the last one sent is then of an earlier owner.
    return last if last.owner == claim.owner and last.outcome is None else None


@dataclass(frozen=True, slots=True)
class SentAttempt:
    """The record of an attempt as it was read from the bucket."""

    record: AttemptRecord
    age_s: float
    """Seconds since it was sent, by the store's own clock."""


def attempts_in(
    bucket: Bucket, run: Run, names: Iterable[str] | None = None
) -> list[AttemptRecord]:
    """Every attempt at `run` whose record was sent, the oldest first; unreadable ones left out.

    `names` are the run's objects; without them they are listed now.
    """
    return [each.record for each in sent_attempts(bucket, run, names)]


def sent_attempts(
    bucket: Bucket, run: Run, names: Iterable[str] | None = None
) -> list[SentAttempt]:
    """As `attempts_in`, with the age of each record."""
    if names is None:
        names = [listed.name for listed in bucket.list(RunNames(run).folder)]
    paths = RunPaths(Path(run.path))
    numbers = sorted(n for name in names if (n := paths.attempt_number(name)) is not None)
    found = (_read_attempt(bucket, paths.attempt(n).record.as_posix()) for n in numbers)
    return [attempt for attempt in found if attempt]


def _read_attempt(bucket: Bucket, name: str) -> SentAttempt | None:
    answer = bucket.get(name)
    if answer is None:
        return None
    data, head = answer
    url = bucket.url(name)
    try:
        return SentAttempt(attempt_from_json(url, parse_json(url, data)), head.age_s)
    except RecordError:
        return None
