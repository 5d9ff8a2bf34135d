"""A balanced division, settled on disk: servers that ask at different times get the same shards.

Durations are known better with every finished run, so each server by itself would divide
differently, and some run would be in no shard at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from merge.errors import RecordError
from merge.files import canonical_json, read_json, write_json_exclusive
from merge.paths import SweepPaths
from merge.sweep import SCHEMA, Run
from orchestrator.shards import Shard


def settled_shards(output: Path, runs: Sequence[Run], count: int) -> tuple[Shard, ...] | None:
    """The division of exactly these `runs` into `count` shards that `output` holds, if any.

    RecordError where the file is damaged.
    """
    path = _path(output, runs, count)
    try:
        document = read_json(path)
    except FileNotFoundError:
        return None
    by_id = {run.run_id: run for run in runs}
    try:
        shards = tuple(
            Shard(name=entry["name"], runs=tuple(by_id[run_id] for run_id in entry["runs"]))
            for entry in document["shards"]
        )
    except (KeyError, TypeError) as error:
        raise _damaged(path) from error
    if sorted(run.run_id for shard in shards for run in shard.runs) != sorted(by_id):
        raise _damaged(path)
    return shards


def settle_shards(output: Path, shards: Sequence[Shard]) -> tuple[Shard, ...]:
    """Write the division `shards` into `output`, unless it holds one already; returns what counts.

    StorageError where it cannot be written, RecordError where the one on disk is damaged.
    """
    runs = [run for shard in shards for run in shard.runs]
    document = {
        "schema": SCHEMA,
        "shards": [{"name": s.name, "runs": [run.run_id for run in s.runs]} for s in shards],
    }
    write_json_exclusive(_path(output, runs, len(shards)), document)
    settled = settled_shards(output, runs, len(shards))
    assert settled is not None, "it was written, by us or by another"
    return settled


def _path(output: Path, runs: Sequence[Run], count: int) -> Path:
    selection = sha256(canonical_json(sorted(run.run_id for run in runs))).hexdigest()[:12]
    return SweepPaths(output).shards(f"balanced-{count}-{selection}")


def _damaged(path: Path) -> RecordError:
    return RecordError(
        f"{path} is no division of the selected runs: it was changed by hand; while no server "
        f"works on it, remove it, and it is made anew"
    )
