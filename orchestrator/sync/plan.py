"""The plan at a place in a bucket: written once, then only compared."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from merge.errors import ConfigChangedError, IncompleteError, RecordError
from merge.records.plan_diff import plan_differences
from merge.records.sweep import Sweep, read_sweep
from merge.storage.atomic import write_atomic
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import ABSENT, Bucket
from orchestrator.s3.checksums import refuse_mismatch, sha256_hex
from orchestrator.s3.url import BucketTarget

PLAN = SweepPaths.PLAN_NAME
_MAX_LINES = 16

ATTEMPTS_BESIDE_TRAINING = 2
"""At one request: the backlog retries as a whole, and a start should not wait for a minute."""


def publish_plan(bucket: Bucket, copy_to: SweepPaths, sweep: Sweep, data: bytes) -> Sweep:
    """Put the plan `data` into the bucket, unless an equal plan is there; returns the bucket's.

    The bucket's plan is copied into the folder `copy_to`. ConfigChangedError lists the differences
    where the bucket holds another plan.
    """
    remote = read_plan(bucket, copy_to)
    if remote is None:
        # Another server may put its plan at the same moment: only what is read back counts.
        bucket.put(PLAN, data, only_if=ABSENT)
        remote = require_plan(bucket, copy_to)
    refuse_different_plan(bucket, remote, sweep)
    return remote


def read_plan(bucket: Bucket, copy_to: SweepPaths) -> Sweep | None:
    """The plan that a bucket holds, copied into the folder `copy_to`; None where it has none.

    RecordError where it is damaged or unreadable.
    """
    answer = bucket.get(PLAN)
    if answer is None:
        return None
    data, head = answer
    if head.sha256 is not None:
        refuse_mismatch(bucket.url(PLAN), head.sha256, sha256_hex(data))
    path = copy_to.sweep
    write_atomic(path, lambda file: file.write(data))
    try:
        return read_sweep(path)
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
    """ConfigChangedError unless both plans have the same runs with the same configurations."""
    differences = plan_differences(remote, local)
    if not differences:
        return
    hidden = len(differences) - _MAX_LINES
    more = [f"... and {hidden} more differences"] if hidden > 0 else []
    lines = [
        f"{bucket.target.url} holds another plan of study {remote.study!r}; bucket -> here:",
        *(f"  {line}" for line in (*differences[:_MAX_LINES], *more)),
        "One table would mix the numbers of both plans: use another prefix.",
    ]
    raise ConfigChangedError("\n".join(lines))


def check_before_training(target: BucketTarget, sweep: Sweep) -> None:
    """Ask the store once, so that a wrong place is refused before anything is trained.

    BucketError where it refuses, ConfigChangedError where the place holds another plan,
    BucketUnavailableError where it does not answer now.
    """
    bucket = Bucket(replace(target, max_attempts=ATTEMPTS_BESIDE_TRAINING))
    with tempfile.TemporaryDirectory() as folder:
        remote = read_plan(bucket, SweepPaths(Path(folder)))
    if remote:
        refuse_different_plan(bucket, remote, sweep)
