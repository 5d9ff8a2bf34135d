"""A plan as a command sees it: the sweep, the runs it selects, how they are divided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from merge.records.sweep import Run, Sweep
from orchestrator.plan.division import Division
from orchestrator.plan.durations import Estimate
from orchestrator.plan.shards import Shard


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan:
    """What would run: a sweep, the selected runs of it, and how they are divided."""

    sweep: Sweep
    runs: tuple[Run, ...]
    shards: tuple[Shard, ...]
    """The selected shards: together they hold `runs`."""
    division: Division
    all_shards: tuple[Shard, ...]
    """Also those that `--shard` did not select."""
    estimates: Mapping[str, Estimate]
    """Expected duration of each run by its id."""

    def __repr__(self) -> str:
        return (
            f"<Plan of study {self.sweep.study!r}: {len(self.runs)} of {len(self.sweep.runs)} "
            f"runs, shards: {len(self.shards)}>"
        )
