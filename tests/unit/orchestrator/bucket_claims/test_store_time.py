"""When the owner of a claim in a bucket counts as dead: by the store's times, not an answer's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from support.grids import make_grid
from support.memory_bucket import TARGET, MemoryBucket

from merge.records.records import AttemptRecord, Claim
from merge.storage.json_files import canonical_json
from merge.storage.paths import SweepPaths
from orchestrator.bucket_claims.claims import FolderAndBucketClaims
from orchestrator.bucket_claims.remote_claims import RemoteClaims
from orchestrator.bucket_claims.states import read_bucket_state
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Busy, Taken
from orchestrator.runs.states import State
from orchestrator.s3.objects import ListedObject, ObjectHead

RUN = "cell/fold0"
OTHER = replace(this_owner(), host="elsewhere")


class TimedBucket(MemoryBucket):
    """A store whose answers carry a time of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.answers_ahead_s = 0.0
        self.written: dict[str, datetime] = {}

    def put(self, name: str, data: bytes, *, only_if: str | None = None) -> str | None:
        etag = super().put(name, data, only_if=only_if)
        if etag:
            self.written[name] = self.now
        return etag

    def head(self, name: str) -> ObjectHead | None:
        head = super().head(name)
        return head and self._timed(name, head)

    def get(self, name: str) -> tuple[bytes, ObjectHead] | None:
        answer = super().get(name)
        return answer and (answer[0], self._timed(name, answer[1]))

    def list(self, name_prefix: str = "") -> Iterator[ListedObject]:
        for listed in super().list(name_prefix):
            yield replace(listed, modified=self.written[listed.name])

    def _timed(self, name: str, head: ObjectHead) -> ObjectHead:
        age = self.now - self.written[name]
        return replace(
            head,
            modified=self.written[name],
            age_s=age.total_seconds() + self.answers_ahead_s,
        )


def take(bucket: TimedBucket, owner=OTHER):
    return RemoteClaims(bucket).take(RUN, owner, now=0.0, expiry_s=60.0)


@pytest.mark.parametrize("answers_ahead_s", [-3600.0, 0.0, 300.0, 3600.0])
def test_the_time_of_an_answer_takes_no_run_away(answers_ahead_s):
    bucket = TimedBucket()
    assert isinstance(take(bucket, this_owner()), Taken)
    bucket.now += timedelta(seconds=10)
    bucket.answers_ahead_s = answers_ahead_s
    assert isinstance(take(bucket), Busy)


@pytest.mark.parametrize("answers_ahead_s", [0.0, 300.0])
def test_a_claim_that_is_old_for_the_store_is_taken_over_at_once(answers_ahead_s):
    bucket = TimedBucket()
    assert isinstance(take(bucket, this_owner()), Taken)
    bucket.now += timedelta(seconds=61)
    bucket.answers_ahead_s = answers_ahead_s
    assert isinstance(take(bucket), Taken)


SWEEP = make_grid(folds=range(2))
SHARED, OLDER = SWEEP.runs


def put_json(bucket, name, document):
    bucket.put(name, canonical_json(document))


def shared_run(bucket: TimedBucket, *, heartbeat: float, started: float) -> None:
    """A run of another host whose clock is not the store's, with its attempt's record."""
    put_json(bucket, "sweep.json", SWEEP.to_json())
    claim = Claim(number=1, token="t", owner=OTHER, heartbeat=heartbeat, expiry_s=60.0)
    put_json(bucket, f"{SHARED.path}/claim-0001.json", claim.to_json())
    record = AttemptRecord(
        number=1,
        token="t",
        owner=OTHER,
        command=("x",),
        device="cpu",
        devices=(),
        started=started,
        code={},
    )
    put_json(bucket, f"{SHARED.path}/attempts/0001/attempt.json", record.to_json())


@pytest.fixture
def state_of(monkeypatch):
    """The state of the shared run, as `status --claims` has it at our own time."""

    def state_of(bucket: TimedBucket, here: datetime):
        monkeypatch.setattr("orchestrator.bucket_claims.states.Bucket", lambda _: bucket)
        return read_bucket_state(TARGET, here.timestamp()).states[SHARED.run_id]

    return state_of


@pytest.mark.parametrize("owners_clock", [0.0, 1e9, 4e9])
@pytest.mark.parametrize(("silent_s", "state"), [(10, State.RUNNING), (70, State.FAILED)])
def test_ages_are_of_the_store_and_not_of_the_owners_clock(state_of, owners_clock, silent_s, state):
    bucket = TimedBucket()
    shared_run(bucket, heartbeat=owners_clock + 500, started=owners_clock)
    bucket.now += timedelta(seconds=silent_s)
    found = state_of(bucket, bucket.now)
    assert found.state is state
    assert found.heartbeat_age_s == silent_s
    assert found.attempt_age_s == 500 + silent_s
    assert found.output_age_s == silent_s


@pytest.mark.parametrize(
    ("answers_ahead_s", "here_ahead_s"),
    [(3600, 0), (-3600, 0), (0, 3600), (0, -3600), (3600, -3600), (90, 0), (0, 90)],
)
def test_no_single_wrong_clock_makes_a_live_run_lost(state_of, answers_ahead_s, here_ahead_s):
    bucket = TimedBucket()
    shared_run(bucket, heartbeat=500.0, started=0.0)
    bucket.now += timedelta(seconds=10 if answers_ahead_s < 0 else 40)
    bucket.answers_ahead_s = answers_ahead_s
    found = state_of(bucket, bucket.now + timedelta(seconds=here_ahead_s))
    assert found.state is State.RUNNING
    assert (found.heartbeat_age_s, found.attempt_age_s, found.output_age_s) == (None, None, None)
    assert "disagree" in found.reason


@pytest.mark.parametrize(("answers_ahead_s", "here_ahead_s"), [(3600, 0), (0, 3600)])
def test_an_owner_that_is_silent_by_every_clock_is_lost(state_of, answers_ahead_s, here_ahead_s):
    bucket = TimedBucket()
    shared_run(bucket, heartbeat=500.0, started=0.0)
    bucket.now += timedelta(seconds=70)
    bucket.answers_ahead_s = answers_ahead_s
    found = state_of(bucket, bucket.now + timedelta(seconds=here_ahead_s))
    assert (found.state, found.heartbeat_age_s) == (State.FAILED, None)
    assert found.reason.startswith("lost: ")


def test_a_newer_object_shows_that_the_owner_is_silent_where_no_clock_does(state_of):
    bucket = TimedBucket()
    shared_run(bucket, heartbeat=500.0, started=0.0)
    bucket.now += timedelta(seconds=70)
    put_json(bucket, f"{OLDER.path}/claim-0001.json", {})
    bucket.answers_ahead_s = -3600
    found = state_of(bucket, bucket.now - timedelta(seconds=3600))
    assert found.state is State.FAILED


@pytest.mark.parametrize("answers_ahead_s", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize(("command_age_s", "is_before"), [(5.0, True), (60.0, False)])
def test_what_failed_before_a_command_is_a_matter_of_the_stores_own_time(
    monkeypatch, tmp_path, answers_ahead_s, command_age_s, is_before
):
    bucket = TimedBucket()
    shared_run(bucket, heartbeat=500.0, started=0.0)
    name = f"{SHARED.path}/attempts/0001/attempt.json"
    record = {**json.loads(bucket.objects[name]), "outcome": "failed", "ended": 1.0}
    put_json(bucket, name, record)
    bucket.now += timedelta(seconds=30)
    bucket.answers_ahead_s = answers_ahead_s
    monkeypatch.setattr("orchestrator.bucket_claims.claims.Bucket", lambda _: bucket)
    monkeypatch.setattr(
        "orchestrator.bucket_claims.claims.require_exclusive_claims", lambda _: None
    )
    claims = FolderAndBucketClaims(tmp_path, TARGET, SWEEP, heartbeat_s=3600)
    found = claims.failed_before(SweepPaths(tmp_path).run(SHARED.path), command_age_s)
    claims.close()
    assert found == (frozenset({"t"}) if is_before else frozenset())


def test_a_long_listing_is_no_disagreement(monkeypatch):
    bucket = TimedBucket()
    shared_run(bucket, heartbeat=500.0, started=0.0)
    began = bucket.now.timestamp()
    # The owner sent its last heartbeat while the bucket was listed.
    bucket.now += timedelta(seconds=90)
    shared_run(bucket, heartbeat=590.0, started=0.0)
    bucket.now += timedelta(seconds=10)
    monkeypatch.setattr("orchestrator.bucket_claims.states.Bucket", lambda _: bucket)
    times = iter([0.0])
    clock = SimpleNamespace(monotonic=lambda: next(times, 100.0))
    found = read_bucket_state(TARGET, began, clock).states[SHARED.run_id]
    assert (found.state, found.heartbeat_age_s, found.attempt_age_s) == (State.RUNNING, 10, 600)
