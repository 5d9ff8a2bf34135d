"""The records of a run's attempts, of all hosts, as they were sent to a bucket."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from merge.errors import RecordError
from merge.paths import RunPaths
from merge.records import AttemptRecord, attempt_from_json
from merge.sweep import Run
from orchestrator.bucket import Bucket


def attempts_in(
    bucket: Bucket, run: Run, names: Iterable[str] | None = None
) -> list[AttemptRecord]:
    """Every attempt at `run` that was sent, the oldest first; unreadable records are none.

    `names` are the run's objects; without them they are listed.
    """
    if names is None:
        names = [stored.name for stored in bucket.list(f"{run.path}/")]
    paths = RunPaths(Path(run.path))
    numbers = sorted(n for name in names if (n := paths.attempt_number(name)) is not None)
    found = (_read(bucket, paths.attempt(number).record.as_posix()) for number in numbers)
    return [record for record in found if record]


def _read(bucket: Bucket, name: str) -> AttemptRecord | None:
    answer = bucket.get(name)
    if answer is None:
        return None
    try:
        return attempt_from_json(f"{bucket.target.url}/{name}", json.loads(answer[0]))
    except (ValueError, RecordError):
        return None
