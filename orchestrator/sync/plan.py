"""One place in a bucket holds one plan: it is put there once and only ever compared."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from merge.errors import (
    ConfigChangedError,
    IncompleteError,
    RecordError,
)
from merge.records.plan_diff import plan_differences
from merge.records.sweep import Sweep, read_sweep
from merge.storage.atomic import write_atomic
from merge.storage.paths import SweepPaths
from orchestrator.s3.bucket import ABSENT, Bucket
from orchestrator.s3.download import damaged
from orchestrator.s3.url import BucketTarget
from orchestrator.sync.cache import Memory, sha256_hex

PLAN = SweepPaths.PLAN_NAME
_MOST_LINES = 16


def agree_on_plan(bucket: Bucket, memory: Memory, sweep: Sweep, data: bytes) -> Sweep:
    """Put the plan `data` into the bucket, or find an equal one there; returns the bucket's.

    ConfigChangedError names the differences where the bucket has another plan.
    """
    there = plan_in(bucket, memory.view)
    if there is None:
        bucket.put(PLAN, data, only_if=ABSENT)
        there = plan_needed_in(bucket, memory.view)
    refuse_difference(bucket, there, sweep)
    return there


def plan_in(bucket: Bucket, keep: SweepPaths) -> Sweep | None:
    """The plan that a bucket holds, copied into the folder `keep`; None where it holds none.

    RecordError where it is unusable.
    """
    answer = bucket.get(PLAN)
    if answer is None:
        return None
    data, head = answer
    found = sha256_hex(data)
    if head.sha256 is not None and found != head.sha256:
        raise RecordError(damaged(bucket, PLAN, head.sha256, found))
    path = keep.sweep
    write_atomic(path, lambda file: file.write(data))
    try:
        return read_sweep(path)
    except RecordError as error:
        raise RecordError(f"{bucket.target.url}/{PLAN}, fetched to {error}") from error


def plan_needed_in(bucket: Bucket, keep: SweepPaths) -> Sweep:
    """As `plan_in`; IncompleteError where the bucket holds none."""
    there = plan_in(bucket, keep)
    if there is None:
        raise IncompleteError(
            f"no sweep in {bucket.target.url}: {PLAN} is not there. Correct the prefix, or push "
            f"first: replicate sync push OUT {bucket.target.url}"
        )
    return there


def refuse_difference(bucket: Bucket, there: Sweep, here: Sweep) -> None:
    """ConfigChangedError unless the two plans have the same runs with the same configurations."""
    differences = plan_differences(there, here)
    if differences:
        hidden = len(differences) - _MOST_LINES
        more = [f"... and {hidden} more differences"] if hidden > 0 else []
        raise ConfigChangedError(
            "\n".join(
                [
                    f"{bucket.target.url} holds another plan of study {there.study!r}; "
                    f"there -> here:",
                    *(f"  {line}" for line in (*differences[:_MOST_LINES], *more)),
                    "Numbers of both would be mixed in one table: give another prefix.",
                ]
            )
        )


TRIES = 2
"""Of one request; the backlog itself is what is patient here."""


def refuse_wrong_place(target: BucketTarget, sweep: Sweep) -> None:
    """Ask the store once before anything is trained.

    BucketError where it refuses, ConfigChangedError where the place holds another plan,
    BucketUnavailableError where it does not answer now.
    """
    bucket = Bucket(replace(target, patience=TRIES))
    with tempfile.TemporaryDirectory() as folder:
        there = plan_in(bucket, SweepPaths(Path(folder)))
    if there:
        refuse_difference(bucket, there, sweep)
