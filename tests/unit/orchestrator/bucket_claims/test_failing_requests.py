"""What claims in a bucket do where single requests fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.grids import make_grid
from support.memory_bucket import TARGET, MemoryBucket

from merge.errors import BucketError, PapergridError, RecordError
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.bucket_claims import claims as module
from orchestrator.bucket_claims.claims import FolderAndBucketClaims
from orchestrator.machine.owners import this_owner
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
