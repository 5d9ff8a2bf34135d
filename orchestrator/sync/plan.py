"""The plan at a place in a bucket: written once; other copies may add runs and change none."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from merge.errors import BucketUnavailableError, IncompleteError, RecordError
from merge.records.growth import Growth
from merge.records.plan_changes import plan_changes, refuse_changes
from merge.records.plan_growth import grow_by_copy, grow_plan_file
from merge.records.sweep import Sweep, read_sweep
from merge.storage.atomic import write_atomic
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.json_files import canonical_json
from merge.storage.paths import SweepPaths
from orchestrator.runs.requests import user_name
from orchestrator.s3.backoff import backoff_s
from orchestrator.s3.bucket import ABSENT, Bucket
from orchestrator.s3.checksums import refuse_mismatch, sha256_hex
from orchestrator.s3.conditional_writes import supports_conditional_writes
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.cache import StoredPlan

PLAN = SweepPaths.PLAN_NAME
_MAX_ROUNDS = 60
"""Many servers may publish a larger plan at the same time; each round lets one of them through."""
_LONGEST_PAUSE_S = 2.0

ATTEMPTS_BESIDE_TRAINING = 2
"""At one request: the backlog retries as a whole, and a start should not wait for a minute."""


def publish_plan(
    bucket: Bucket,
    copy_to: SweepPaths,
    sweep: Sweep,
    data: bytes,
    clock: Clock = SYSTEM_CLOCK,
) -> Sweep:
    """Put the plan `data` into the bucket, or add its runs to the plan there; returns the bucket's.

    The bucket's plan is copied into the folder `copy_to`. ConfigChangedError, with the runs and
    what differs, where the bucket plans one of them differently. BucketUnavailableError where other
    servers change the plan again and again.
    """
    for attempt in range(_MAX_ROUNDS):
        found = fetch_plan(bucket, copy_to)
        if found is None:
            condition: str | None = ABSENT
        else:
            refuse_different_plan(bucket, found.sweep, sweep)
            grown = grow_by_copy(found.sweep, sweep, _entry(bucket))
            if grown == found.sweep:
                return grown
            data, condition = canonical_json(grown.to_json()), found.etag
        if condition != ABSENT and not supports_conditional_writes(bucket):
            condition = None
        # Another server may put its plan at the same moment: only what is read back counts.
        if bucket.put(PLAN, data, only_if=condition) is None:
            clock.sleep(backoff_s(attempt, longest_s=_LONGEST_PAUSE_S))
    raise BucketUnavailableError(
        f"other servers changed {bucket.url(PLAN)} {_MAX_ROUNDS} times in a row: run the same "
        f"command again"
    )


def grow_folder_plan(bucket: Bucket, output: Path, remote: Sweep) -> None:
    """Add the runs of `remote`, the bucket's plan, to the plan that `output` holds.

    ConfigChangedError, with the runs and what differs, where the folder plans one differently.
    """

    def grow(local: Sweep) -> Sweep:
        refuse_different_plan(bucket, remote, local)
        return grow_by_copy(local, remote, _entry(bucket))

    local = read_sweep(SweepPaths(output).sweep)
    if grow(local) != local:
        grow_plan_file(output, grow)


def read_plan(bucket: Bucket, copy_to: SweepPaths) -> Sweep | None:
    """The plan that a bucket holds, copied into the folder `copy_to`; None where it has none.

    RecordError where it is damaged or unreadable.
    """
    found = fetch_plan(bucket, copy_to)
    return found.sweep if found else None


def fetch_plan(bucket: Bucket, copy_to: SweepPaths) -> StoredPlan | None:
    """As `read_plan`, with the version that was read."""
    answer = bucket.get(PLAN)
    if answer is None:
        return None
    data, head = answer
    if head.sha256 is not None:
        refuse_mismatch(bucket.url(PLAN), head.sha256, sha256_hex(data))
    path = copy_to.sweep
    write_atomic(path, lambda file: file.write(data))
    try:
        return StoredPlan(sweep=read_sweep(path), etag=head.etag)
    except RecordError as error:
        raise RecordError(f"the plan {bucket.url(PLAN)}, copied to {error}") from error


def require_plan(bucket: Bucket, copy_to: SweepPaths) -> Sweep:
    """As `read_plan`; IncompleteError where the bucket holds no plan."""
    remote = read_plan(bucket, copy_to)
    if remote is None:
        raise IncompleteError(
            f"no sweep in {bucket.target.url}: it has no {PLAN}. Correct the prefix, or push a "
            f"sweep first: replicate sync push OUT {bucket.target.url}"
        )
    return remote


def refuse_different_plan(bucket: Bucket, remote: Sweep, local: Sweep) -> None:
    """ConfigChangedError, with the runs, where both plan a run and not with one configuration."""
    refuse_changes(
        f"{bucket.target.url} plans runs of study {remote.study!r} differently; bucket -> here:",
        plan_changes(remote, local),
        "One table would mix the numbers of both plans: use another prefix.",
    )


def _entry(bucket: Bucket) -> Growth:
    """Who adds runs that no entry of the plan's growth tells of yet."""
    return Growth(
        at=SYSTEM_CLOCK.now(),
        by=user_name(),
        host=os.uname().nodename,
        source=str(bucket.target.url),
    )


def check_before_training(target: BucketTarget, sweep: Sweep) -> None:
    """Ask the store once, so that a wrong place is refused before anything is trained.

    BucketError where it refuses, ConfigChangedError where it plans a run differently,
    BucketUnavailableError where it does not answer now.
    """
    bucket = Bucket(replace(target, max_attempts=ATTEMPTS_BESIDE_TRAINING))
    with tempfile.TemporaryDirectory() as folder:
        remote = read_plan(bucket, SweepPaths(Path(folder)))
    if remote:
        refuse_different_plan(bucket, remote, sweep)
