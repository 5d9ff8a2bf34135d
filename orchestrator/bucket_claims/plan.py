"""The plan of runs that hosts share through a bucket: put there once, fetched by each host."""

from __future__ import annotations

from pathlib import Path

from merge.records.sweep import Sweep, read_sweep
from merge.storage.json_files import canonical_json
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.cache import SyncCache
from orchestrator.sync.plan import publish_plan
from orchestrator.sync.pull import Pull, prepare_pull


def publish_plan_to(target: BucketTarget, output: Path, sweep: Sweep) -> None:
    """Put `sweep` as the plan of `target`, before any host claims a run of it.

    ConfigChangedError where that place has another plan.
    """
    bucket = Bucket(target)
    mirror = SyncCache(output, bucket).mirror
    publish_plan(bucket, mirror, sweep, canonical_json(sweep.to_json()))


def sync_plan(target: BucketTarget, output: Path) -> None:
    """Have the same plan in `target` and `output`: copied from the one that has it to the other.

    ConfigChangedError where they have different plans, IncompleteError where both have none.
    """
    path = SweepPaths(output).sweep
    if path.exists():
        publish_plan_to(target, output, read_sweep(path))
    else:
        prepare_pull(Pull.between(output, Bucket(target)))
