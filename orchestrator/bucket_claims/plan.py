"""The plan of runs that hosts share through a bucket: put there, and fetched by each host."""

from __future__ import annotations

from pathlib import Path

from merge.records.sweep import Sweep, read_sweep
from merge.storage.json_files import canonical_json
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import Bucket
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.cache import SyncCache
from orchestrator.sync.plan import grow_folder_plan, publish_plan
from orchestrator.sync.pull import Pull, prepare_pull


def publish_plan_to(target: BucketTarget, output: Path, sweep: Sweep) -> Sweep:
    """Have the runs of `sweep` in the plan of `target`, before any host claims one of them.

    Returns the plan there. ConfigChangedError where that place plans a run differently.
    """
    bucket = Bucket(target)
    mirror = SyncCache(output, bucket).mirror
    return publish_plan(bucket, mirror, sweep, canonical_json(sweep.to_json()))


def sync_plan(target: BucketTarget, output: Path) -> None:
    """Have the runs of both plans in `target` and in `output`.

    ConfigChangedError where they plan a run differently, IncompleteError where both have no plan.
    """
    path = SweepPaths(output).sweep
    if path.exists():
        remote = publish_plan_to(target, output, read_sweep(path))
        grow_folder_plan(Bucket(target), output, remote)
    else:
        prepare_pull(Pull.between(output, Bucket(target)))
