"""The states of runs that hosts share through a bucket, derived from its objects. Reads only."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from merge.errors import RecordError
from merge.records.records import AttemptRecord, Claim, attempt_from_json
from merge.records.sweep import Run, Sweep
from merge.results.documents import contribution_of_view
from merge.results.unite import Contribution
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.json_files import parse_json
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.bucket_claims.remote_claims import ClaimObject, RemoteClaims
from orchestrator.bucket_claims.store_time import StoreTime, store_time
from orchestrator.machine.owners import owner_alive, this_owner
from orchestrator.runs.progress import Progress, read_progress
from orchestrator.runs.states import LIVE_STATES, RunFacts, RunState, State, derive_state
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.objects import ListedObject
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.merged_view import MERGED_VIEW
from orchestrator.sync.plan import require_plan
from orchestrator.sync.selection import RunNames, run_of_name, runs_by_path

_NEVER = datetime.fromtimestamp(0, UTC)
_UNKNOWN_TIME = (
    "whether its owner is alive is not known: the time in the store's answers and the clock of "
    "this machine disagree"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketState:
    """What a place in a bucket holds at one moment."""

    contribution: Contribution
    """Its plan, and the results in its merged JSON."""
    states: Mapping[str, RunState]
    """By run id, of the runs that were claimed or finished."""


def read_bucket_state(target: BucketTarget, now: float, clock: Clock = SYSTEM_CLOCK) -> BucketState:
    """The state of `target` at Unix time `now`. IncompleteError where it holds no plan."""
    began = clock.monotonic()
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
    times = [listed.modified for objects in found.values() for listed in objects]
    newest = max(times, default=_NEVER)
    reader = _StateReader(bucket, now, newest, lambda: now + clock.monotonic() - began)
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
    newest: datetime
    """When the newest object was written, by the store's own clock."""
    time_here: Callable[[], float]
    """Our own time at this moment, in Unix seconds: a long listing may have come before."""

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
        attempt = _attempt_of(last.claim, sent_attempts(self.bucket, run, names))
        time = store_time(
            newest=max(self.newest, last.modified), answered=last.answered, own=self.time_here()
        )
        facts = self._facts(run, last, attempt, objects, time)
        found = derive_state(facts, self.now)
        return found if time.is_known else _without_ages(found, facts.owner_alive)

    def _facts(
        self,
        run: Run,
        last: ClaimObject,
        attempt: SentAttempt | None,
        objects: Sequence[ListedObject],
        time: StoreTime,
    ) -> RunFacts:
        """The facts, with times by the store's clock as if it were ours: none by another host's."""
        here, claim = this_owner(), last.claim
        written = [each.modified for each in objects if _is_of_trainer(run, each.name)]
        record = attempt.record if attempt else None
        return RunFacts(
            claim=claim,
            last_beat=self.now - time.least_age_s(last.modified),
            owner_alive=None if claim.released else owner_alive(claim.owner, here),
            attempt=record,
            attempt_began=self.now - _least_attempt_age_s(last, attempt, time) if attempt else None,
            progress=self._progress(run, record),
            last_output=self.now - time.least_age_s(max(written)) if written else None,
        )

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


def _least_attempt_age_s(last: ClaimObject, attempt: SentAttempt, time: StoreTime) -> float:
    """Seconds since an attempt began: up to its owner's last heartbeat by the owner's clock alone,
    from then on by the store's."""
    if attempt.record.owner != last.claim.owner:
        return time.least_age_s(attempt.modified)
    until_beat_s = max(0.0, last.claim.heartbeat - attempt.record.started)
    return until_beat_s + time.least_age_s(last.modified)


def _without_ages(state: RunState, owner_alive: bool | None) -> RunState:
    is_unsure = state.state in LIVE_STATES and owner_alive is None
    return replace(
        state,
        reason=state.reason or (_UNKNOWN_TIME if is_unsure else ""),
        attempt_age_s=None,
        heartbeat_age_s=None,
        output_age_s=None,
    )


def _attempt_of(claim: Claim, attempts: Sequence[SentAttempt]) -> SentAttempt | None:
    """The attempt that runs under `claim`, or the last one before it was given back."""
    last = attempts[-1] if attempts else None
    if last is None or claim.released:
        return last
    # Records are sent with the checkpoints only: that of a new attempt may still be missing, and
    # the last one sent is then of an earlier owner.
    record = last.record
    return last if record.owner == claim.owner and record.outcome is None else None


@dataclass(frozen=True, slots=True)
class SentAttempt:
    """The record of an attempt as it was read from the bucket."""

    record: AttemptRecord
    modified: datetime
    """When it was sent, by the store's own clock."""


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
    """As `attempts_in`, with the time of each record."""
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
        return SentAttempt(attempt_from_json(url, parse_json(url, data)), head.modified)
    except RecordError:
        return None
