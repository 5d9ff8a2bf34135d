"""The plan of runs that hosts share through a bucket: put there once, fetched by each of them."""

from __future__ import annotations

from pathlib import Path

from merge.records.sweep import Sweep, read_sweep
from merge.storage.json_files import canonical_json
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.cache import Memory
from orchestrator.sync.files import Selection
from orchestrator.sync.plan import agree_on_plan
from orchestrator.sync.pull import Pull, prepare
from orchestrator.sync.report import SyncReport


def agree_on_plan_at(target: BucketTarget, output: Path, sweep: Sweep) -> None:
    """Put `sweep` as the plan of `target`, before anybody claims a run of it.

    ConfigChangedError where that place has another plan.
    """
    bucket = Bucket(target)
    agree_on_plan(bucket, Memory(output, bucket), sweep, canonical_json(sweep.to_json()))


def settle_plan(target: BucketTarget, output: Path) -> None:
    """Have one plan in `target` and `output`: whichever has none is given that of the other.

    ConfigChangedError where they have two, IncompleteError where they have none.
    """
    path = SweepPaths(output).sweep
    if path.exists():
        agree_on_plan_at(target, output, read_sweep(path))
        return
    bucket = Bucket(target)
    way = Pull(
        output=output,
        bucket=bucket,
        memory=Memory(output, bucket),
        selection=Selection(),
        report=SyncReport(),
    )
    prepare(way)
