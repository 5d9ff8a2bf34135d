"""Shards, pure: runs divided among servers or array tasks, each run in exactly one shard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from merge.errors import RecordError, SelectionError, UsageError
from merge.records.short_repr import ShortRepr
from merge.records.sweep import SCHEMA, Run
from merge.storage.json_files import canonical_json, read_json, write_json_exclusive
from merge.storage.paths import SweepPaths
from merge.wording import hint
from orchestrator.config.values import slug

SINGLE = "run"
"""In place of axes: each run is a shard."""

BALANCED = "balanced"
"""In place of axes: shards of equal expected duration (`orchestrator.plan.balance`)."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Shard(ShortRepr):
    """The runs that one server or one array task is given."""

    name: str
    """Safe in a file name: `dataset=coco20i,backbone=resnet50`, or `2of4`."""
    runs: tuple[Run, ...]


def shard_by(runs: Sequence[Run], axes: Sequence[str]) -> tuple[Shard, ...]:
    """One shard for each combination of values of `axes` that `runs` have.

    In the order of the runs; without axes all runs are one shard, by the word `run` each run is
    one. SelectionError for an axis that the runs do not have.
    """
    if list(axes) == [SINGLE]:
        return tuple(Shard(name=run.run_id, runs=(run,)) for run in runs)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_shard_name(run, axes), []).append(run)
    return tuple(Shard(name=name, runs=tuple(group)) for name, group in groups.items())


def shard_into(runs: Sequence[Run], count: int) -> tuple[Shard, ...]:
    """`count` shards whose sizes differ by at most one run; some are empty where runs are fewer.

    Dealt out like cards: neighbours in the grid take about equally long, so every shard gets its
    part of the slow cells. UsageError where `count` is no positive number.
    """
    if count < 1:
        raise UsageError(f"cannot divide runs into {count} shards: give 1 or more")
    return tuple(
        Shard(name=f"{index}of{count}", runs=tuple(runs[index - 1 :: count]))
        for index in range(1, count + 1)
    )


def parse_shard(text: str) -> tuple[int, int]:
    """`2/4`, the second of four shards, as (2, 4). UsageError unless 1 <= index <= count."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(
            f"--shard {text}: write INDEX/COUNT, counted from 1, such as 2/4 for the second of four"
        )
    return index, count


def _shard_name(run: Run, axes: Sequence[str]) -> str:
    parts = []
    for axis in dict.fromkeys(axes):
        if axis not in run.axes:
            raise SelectionError(f"cannot shard by {axis!r}, not an axis{hint(axis, run.axes)}")
        parts.append(f"{axis}={slug(run.axes[axis])}")
    return ",".join(parts) or "all"


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
    # Whether this process wrote it or another one did, the file on disk is what all servers divide
    # by.
    write_json_exclusive(_path(output, runs, len(shards)), document)
    settled = settled_shards(output, runs, len(shards))
    assert settled is not None, "it was written, by us or by another"
    return settled


def _path(output: Path, runs: Sequence[Run], count: int) -> Path:
    # Another selection is another division: its file has another name.
    selection = sha256(canonical_json(sorted(run.run_id for run in runs))).hexdigest()[:12]
    return SweepPaths(output).shards(f"balanced-{count}-{selection}")


def _damaged(path: Path) -> RecordError:
    return RecordError(
        f"{path} does not divide the selected runs: it was changed by hand. Remove it while no "
        f"server works on this folder; then it is made again"
    )
