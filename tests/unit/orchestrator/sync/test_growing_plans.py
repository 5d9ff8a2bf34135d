"""A plan in a bucket grows like one in a folder: by what others add, and never shrinks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.grids import make_grid, write_result, write_sweep
from support.memory_bucket import TARGET, MemoryBucket

from merge.errors import BucketUnavailableError, ConfigChangedError
from merge.records.sweep import Sweep, read_sweep
from merge.storage.json_files import canonical_json, parse_json
from merge.storage.paths import SweepPaths
from orchestrator.bucket_claims import plan as published
from orchestrator.sync import plan as sync_plan
from orchestrator.sync.cache import SyncCache
from orchestrator.sync.merged_view import MERGED_VIEW, update_merged_view
from orchestrator.sync.plan import PLAN, grow_folder_plan, publish_plan
from orchestrator.sync.pull import Pull, prepare_pull
from orchestrator.sync.push import Push, prepare_push
from orchestrator.sync.verify import Verify

ONE, TWO, BOTH = make_grid(folds=(0,)), make_grid(folds=(1,)), make_grid(folds=(0, 1))
CHANGED = make_grid(folds=(0, 1), epochs=2)


class BusyBucket(MemoryBucket):
    """Another server writes its plan just before the first of our writes arrive."""

    def __init__(self, writes: list[Callable[[], object]]) -> None:
        super().__init__()
        self.writes = writes

    def put(self, name: str, data: bytes, *, only_if: str | None = None) -> str | None:
        if name == PLAN and self.writes:
            self.writes.pop(0)()
        return super().put(name, data, only_if=only_if)


def publish(bucket: MemoryBucket, folder: Path, sweep: Sweep) -> Sweep:
    return publish_plan(bucket, SweepPaths(folder), sweep, canonical_json(sweep.to_json()))


def plan_in(bucket: MemoryBucket) -> list[object]:
    return [run["axes"]["fold"] for run in parse_json(PLAN, bucket.objects[PLAN])["runs"]]


def test_what_each_server_adds_is_in_the_buckets_plan(tmp_path: Path) -> None:
    bucket = MemoryBucket()
    publish(bucket, tmp_path, ONE)
    assert publish(bucket, tmp_path, TWO).runs == BOTH.runs
    before = bucket.objects[PLAN]
    bucket.calls.clear()
    for smaller in (ONE, TWO, BOTH):
        assert publish(bucket, tmp_path, smaller).runs == BOTH.runs
    assert (bucket.objects[PLAN], bucket.calls) == (before, ["get"] * 3)
    with pytest.raises(ConfigChangedError, match=r"epochs: 1 -> 2 \(in 2 runs: "):
        publish(bucket, tmp_path, CHANGED)
    assert bucket.objects[PLAN] == before


def test_a_plan_that_another_server_writes_at_the_same_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_plan, "backoff_s", lambda *_, **__: 0.0)
    bucket = BusyBucket([])

    def theirs(fold: int) -> None:
        grid = make_grid(folds=range(2, fold + 1))
        bucket.objects[PLAN] = canonical_json(grid.to_json())

    bucket.writes = [lambda: theirs(2), lambda: theirs(3)]
    publish(bucket, tmp_path, ONE)
    assert plan_in(bucket) == [0, 2, 3]
    bucket.writes = [partial(theirs, 4 + number) for number in range(100)]
    with pytest.raises(BucketUnavailableError, match="times in a row"):
        publish(bucket, tmp_path, make_grid(folds=(1000,)))


def test_a_store_without_conditions_is_read_again_until_all_runs_are_there(tmp_path: Path) -> None:
    bucket = MemoryBucket()
    bucket.has_conditional_writes = False
    publish(bucket, tmp_path, ONE)
    assert publish(bucket, tmp_path, TWO).runs == BOTH.runs
    assert plan_in(bucket) == [0, 1]


def test_a_pull_adds_the_buckets_runs_to_the_folder_and_keeps_the_folders(tmp_path: Path) -> None:
    bucket, out = MemoryBucket(), tmp_path / "out"
    publish(bucket, tmp_path, ONE)
    write_sweep(out, TWO)
    before = SweepPaths(out).sweep.read_bytes()
    assert prepare_pull(Pull.between(out, bucket, is_dry=True)).runs == ONE.runs
    assert SweepPaths(out).sweep.read_bytes() == before
    assert prepare_pull(Pull.between(out, bucket)).runs == ONE.runs
    grown = read_sweep(SweepPaths(out).sweep)
    assert grown.runs == BOTH.runs
    (entry,) = grown.growth
    assert (entry.source, entry.runs) == ("s3://papers/abcb", (ONE.runs[0].run_id,))
    # A push then brings the folder's run into the bucket, and both know the same growth.
    push = Push.between(out, bucket, is_dry=True)
    assert prepare_push(push).runs == BOTH.runs
    assert plan_in(bucket) == [0]
    assert prepare_push(Push.between(out, bucket)).runs == BOTH.runs
    assert plan_in(bucket) == [0, 1]
    grow_folder_plan(bucket, out, BOTH)
    assert read_sweep(SweepPaths(out).sweep) == grown
    with pytest.raises(ConfigChangedError, match=r"epochs: 2 -> 1 \(in 2 runs: "):
        grow_folder_plan(bucket, out, CHANGED)


def test_a_worker_gets_the_runs_that_were_added_in_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, out = MemoryBucket(), tmp_path / "out"
    monkeypatch.setattr(published, "Bucket", lambda _: bucket)
    publish(bucket, tmp_path, TWO)
    write_sweep(out, ONE)
    published.sync_plan(TARGET, out)
    assert read_sweep(SweepPaths(out).sweep).runs == BOTH.runs
    assert plan_in(bucket) == [0, 1]


def test_a_server_with_the_smaller_plan_does_not_shrink_the_merged_view(tmp_path: Path) -> None:
    bucket = MemoryBucket()
    write_result(tmp_path / "all", BOTH.runs[0], 0.5)
    write_result(tmp_path / "all", BOTH.runs[1], 0.7)
    for run in BOTH.runs:
        name = f"{run.path}/result.json"
        bucket.objects[name] = (tmp_path / "all" / name).read_bytes()
    publish(bucket, tmp_path, ONE)
    small = SyncCache(tmp_path / "small", bucket)
    update_merged_view(bucket, small, ONE)
    publish(bucket, tmp_path, BOTH)
    update_merged_view(bucket, SyncCache(tmp_path / "large", bucket), BOTH)
    large = bucket.objects[MERGED_VIEW]
    assert len(parse_json(MERGED_VIEW, large)["runs"]) == 2
    bucket.calls.clear()
    update_merged_view(bucket, small, ONE)
    assert bucket.objects[MERGED_VIEW] == large
    # The plan and the result that are new to this server; the plan is not fetched at each update.
    assert bucket.calls.count("get") == 3
    bucket.calls.clear()
    update_merged_view(bucket, small, ONE)
    assert bucket.calls.count("get") == 1


def test_verify_compares_the_runs_of_both_plans(tmp_path: Path) -> None:
    bucket, out = MemoryBucket(), tmp_path / "out"
    publish(bucket, tmp_path, ONE)
    write_sweep(out, BOTH)
    write_result(out, BOTH.runs[1], 0.5)
    report = Verify.between(out, bucket).compare_all()
    assert [issue.name for issue in report.missing] == [f"{BOTH.runs[1].path}/result.json"]
    write_sweep(tmp_path / "other", CHANGED)
    with pytest.raises(ConfigChangedError, match="epochs: 1 -> 2"):
        Verify.between(tmp_path / "other", bucket).compare_all()
