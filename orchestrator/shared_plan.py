"""The plan of runs that hosts share through a bucket: put there once, fetched by each of them."""

from __future__ import annotations

from pathlib import Path

from merge.files import canonical_json
from merge.paths import SweepPaths
from merge.sweep import Sweep, read_sweep
from orchestrator.bucket import Bucket
from orchestrator.bucket_url import BucketTarget
from orchestrator.sync_files import Selection
from orchestrator.sync_memory import Memory
from orchestrator.sync_plan import agree_on_plan
from orchestrator.sync_pull import Pull, prepare
from orchestrator.sync_report import SyncReport


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
