"""In which order a plan gets into a bucket and into an output folder."""

from __future__ import annotations

import pytest
from support.grids import make_grid, write_sweep
from support.memory_bucket import TARGET, MemoryBucket

from merge.errors import ConfigChangedError
from merge.storage.json_files import canonical_json
from merge.storage.paths import SweepPaths
from orchestrator import training
from orchestrator.bucket_claims import plan as published
from orchestrator.local.settings import LocalSettings
from orchestrator.machine.devices import Devices
from orchestrator.plan.division import Division
from orchestrator.plan.plan import Plan
from orchestrator.sync import plan as asked
from orchestrator.sync.options import SyncOptions

OURS = make_grid(folds=(0,), epochs=1)
THEIRS = make_grid(folds=(0,), epochs=2)
PLAN = SweepPaths.PLAN_NAME


@pytest.fixture
def bucket(monkeypatch) -> MemoryBucket:
    made = MemoryBucket()
    monkeypatch.setattr(published, "Bucket", lambda _: made)
    # Another host's plan comes just after this host has asked.
    monkeypatch.setattr(asked, "check_before_training", lambda *_: None)
    return made


def train(output) -> None:
    plan = Plan(sweep=OURS, runs=(), shards=(), division=Division(), all_shards=(), estimates={})
    settings = LocalSettings(
        devices=Devices(kind="cpu", slots=("cpu0",)), cache_dir=output / "cache"
    )
    training.train(plan, output, settings, sync=SyncOptions(target=TARGET, has_claims=True))


def test_a_plan_that_the_bucket_refuses_is_not_in_the_folder(bucket, tmp_path):
    bucket.objects[PLAN] = canonical_json(THEIRS.to_json())
    with pytest.raises(
        ConfigChangedError, match="s3://papers/abcb plans runs of study 'test' differently"
    ):
        train(tmp_path)
    assert not SweepPaths(tmp_path).sweep.exists()


def test_a_plan_that_the_folder_refuses_is_not_in_the_bucket(bucket, tmp_path):
    write_sweep(tmp_path, THEIRS)
    with pytest.raises(ConfigChangedError, match=r"changes runs that are planned in .*sweep\.json"):
        train(tmp_path)
    assert bucket.objects == {}
