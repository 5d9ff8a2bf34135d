"""What claims in a bucket do where single requests fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.grids import make_grid
from support.memory_bucket import TARGET, MemoryBucket

from merge.errors import BucketError, RecordError, StorageError
from merge.records.sweep import Run
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.bucket_claims import claims as module
from orchestrator.bucket_claims.claims import FolderAndBucketClaims
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claim_places import FolderClaims
from orchestrator.runs.claims import Taken

SWEEP = make_grid(folds=(0,))
(RUN,) = SWEEP.runs
CLAIM = f"{RUN.path}/claim-0001.json"
ME = replace(this_owner(), host="here")


@pytest.fixture
def bucket(monkeypatch) -> MemoryBucket:
    made = MemoryBucket()
    monkeypatch.setattr(module, "Bucket", lambda _: made)
    return made


@pytest.fixture
def claims(bucket, tmp_path) -> Iterator[FolderAndBucketClaims]:
    made = FolderAndBucketClaims(tmp_path, TARGET, SWEEP, heartbeat_s=3600.0)
    yield made
    bucket.failures.clear()
    made.close()


@pytest.fixture
def paths(tmp_path) -> RunPaths:
    return SweepPaths(tmp_path.resolve()).run(RUN.path)


def take(claims: FolderAndBucketClaims, paths: RunPaths) -> Taken:
    taken = claims.take(paths, RUN.config_hash, ME, now=0.0)
    assert isinstance(taken, Taken)
    return taken


@pytest.mark.parametrize("error", [BucketError("access denied"), RecordError("damaged claim")])
def test_a_store_that_refuses_to_answer_fails_no_finished_run(bucket, claims, paths, error):
    taken = take(claims, paths)
    bucket.failures["list"] = error
    assert claims.may_commit(paths, taken.claim)
    bucket.failures.clear()
    other = json.loads(bucket.objects[CLAIM]) | {"token": "another"}
    bucket.objects[CLAIM] = json.dumps(other).encode()
    assert not claims.may_commit(paths, taken.claim)


def is_released(bucket: MemoryBucket) -> bool:
    return bool(json.loads(bucket.objects[CLAIM])["released"])


@pytest.mark.parametrize("error", [BucketError("access denied"), KeyboardInterrupt()])
def test_a_claim_is_given_back_where_the_bucket_fails_just_after_it(bucket, claims, paths, error):
    bucket.failures["head"] = error
    with pytest.raises(type(error)):
        take(claims, paths)
    assert is_released(bucket)


@pytest.mark.parametrize("error", [StorageError("the disk is full"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["_fetch", "take"])
def test_a_claim_is_given_back_where_a_run_cannot_be_started(
    bucket, claims, paths, monkeypatch, step, error
):
    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(claims if step == "_fetch" else FolderClaims, step, fail)
        with pytest.raises(type(error)):
            take(claims, paths)
    assert is_released(bucket)
    assert take(claims, paths).claim.number == 1, "it is not held either: it can be taken again"


def test_a_run_has_heartbeats_while_its_files_are_fetched(bucket, claims, paths, monkeypatch):
    beats = []

    def fetch(run: Run) -> None:
        claims._held.beat_all()
        beats.append(json.loads(bucket.objects[CLAIM])["heartbeat"])
        assert not claims.running()
        claims.release_sent(run, claims.ended_token(run))
        assert not is_released(bucket)

    monkeypatch.setattr(claims, "_fetch", fetch)
    taken = take(claims, paths)
    assert beats[0] > 0.0
    assert claims.running() == [RUN]
    assert claims.may_commit(paths, taken.claim)


def test_a_run_that_was_not_sent_is_given_back_at_the_end(bucket, claims, paths):
    taken = take(claims, paths)
    claims.release(paths, taken.claim)
    assert not is_released(bucket)
    claims.close()
    assert is_released(bucket)


def test_a_run_that_is_training_at_the_end_is_kept(bucket, claims, paths):
    take(claims, paths)
    claims.close()
    assert not is_released(bucket)


def test_a_store_that_hangs_does_not_keep_the_end(bucket, claims, paths, monkeypatch):
    taken = take(claims, paths)
    claims.release(paths, taken.claim)
    hangs = threading.Event()
    monkeypatch.setattr(module, "_LAST_RELEASES_S", 0.05)
    with monkeypatch.context() as patched:
        patched.setattr(bucket, "put", lambda *_, **__: hangs.wait(60))
        claims.close()
    assert not is_released(bucket)
    hangs.set()


def test_a_store_that_refuses_a_last_release_does_not_keep_the_end(bucket, claims, paths, caplog):
    taken = take(claims, paths)
    claims.release(paths, taken.claim)
    bucket.failures["put"] = BucketError("access denied")
    claims.close()
    assert "not given back in the bucket: access denied" in caplog.text
