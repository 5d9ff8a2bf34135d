"""How a selection of runs is divided into shards, as a person asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.errors import SelectionError, UsageError
from merge.records.sweep import Run
from orchestrator.plan.balance import shard_balanced
from orchestrator.plan.durations import Estimate
from orchestrator.plan.shards import (
    BALANCED,
    Shard,
    parse_shard,
    settled_shards,
    shard_by,
    shard_into,
)

_MOST_SHARDS = 100_000
"""As many as a study may have runs: a typing error must not keep a machine busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Shards by axes, by single runs, by number, or balanced by duration; all of them or one."""

    by: tuple[str, ...] = ()
    count: int | None = None
    index: int | None = None
    """Counted from 1; None asks for all shards."""

    @property
    def is_balanced(self) -> bool:
        return self.by == (BALANCED,)

    def divide(
        self, runs: Sequence[Run], estimates: Mapping[str, Estimate], output: Path | None
    ) -> tuple[Shard, ...]:
        """All shards; a balanced division that `output` holds already stays as it is."""
        if self.is_balanced:
            assert self.count is not None
            # Durations are measured meanwhile, and a balance made anew would give a server runs
            # that another one has begun.
            settled = settled_shards(output, runs, self.count) if output else None
            return settled or shard_balanced(runs, self.count, estimates)
        if not self.by:
            return (
                shard_into(runs, self.count)
                if self.count
                else (Shard(name="all", runs=tuple(runs)),)
            )
        shards = shard_by(runs, self.by)
        # `--shard 2/4` of five shards would leave one out that no server takes.
        if self.count not in (None, len(shards)):
            raise SelectionError(
                f"--shard-by {','.join(self.by)} makes {len(shards)} shards here, not "
                f"{self.count}: write {self._right_way(len(shards))}"
            )
        return shards

    def pick(self, shards: tuple[Shard, ...]) -> tuple[Shard, ...]:
        """The shards that were asked for."""
        return shards if self.index is None else (shards[self.index - 1],)

    def _right_way(self, count: int) -> str:
        if self.index is None:
            return f"--shards {count}"
        return f"--shard {min(self.index, count)}/{count}"


def parse_division(by: Sequence[str], shard: str | None, count: int | None = None) -> Division:
    """What `--shard-by`, `--shard I/N` and `--shards N` ask for. UsageError where they disagree."""
    index = None
    if shard is not None:
        index, total = parse_shard(shard)
        if count not in (None, total):
            raise UsageError(f"--shard {shard} and --shards {count} do not agree")
        count = total
    elif count is not None:
        by = by or (BALANCED,)
    if tuple(by) == (BALANCED,) and count is None:
        raise UsageError(
            "--shard-by balanced needs the number of shards: add --shard I/N, or --shards N to plan"
        )
    if count is not None and not 1 <= count <= _MOST_SHARDS:
        raise UsageError(f"{count} shards: give 1 to {_MOST_SHARDS}")
    return Division(by=tuple(by), count=count, index=index)
