"""Shards, pure: runs divided among servers or array tasks, each run in exactly one shard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from merge.errors import SelectionError, UsageError
from merge.sweep import Run
from orchestrator.scalars import slug
from orchestrator.suggest import hint

SINGLE = "run"
"""In place of axes: each run is a shard."""

BALANCED = "balanced"
"""In place of axes: shards of equal expected duration (`orchestrator.balance`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The runs that one server or one array task is given."""

    name: str
    """Safe in a file name: `dataset=coco20i,backbone=resnet50`, or `2of4`."""
    runs: tuple[Run, ...]


def shard_by(runs: Sequence[Run], axes: Sequence[str]) -> tuple[Shard, ...]:
    """One shard for each combination of values of `axes` that `runs` have (S3-3).

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
