"""Runs of unequal length over servers: balanced shards, makespans, and the bound below them. Pure.

All hours. A makespan is the time until the last server is done.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from merge.errors import UsageError
from merge.records.sweep import Run
from orchestrator.plan.durations import Estimate, longest_first
from orchestrator.plan.shards import Shard


def shard_balanced(
    runs: Sequence[Run], count: int, estimates: Mapping[str, Estimate]
) -> tuple[Shard, ...]:
    """`count` shards of about equal total duration: the longest run first, to the least loaded.

    At most 4/3 of the best possible (Graham 1969). UsageError where `count` is no positive number.
    """
    if count < 1:
        raise UsageError(f"cannot divide runs into {count} shards: give 1 or more")
    shards: list[list[Run]] = [[] for _ in range(count)]
    loads = [(0.0, index) for index in range(count)]
    # Longest processing time first (LPT): a long run that comes last would stand alone at the end.
    for run in longest_first(runs, estimates):
        load, index = heapq.heappop(loads)
        shards[index].append(run)
        heapq.heappush(loads, (load + estimates[run.run_id].hours, index))
    return tuple(
        Shard(name=f"balanced-{index}of{count}", runs=tuple(shard))
        for index, shard in enumerate(shards, start=1)
    )


def makespan(hours: Iterable[float], at_once: int = 1) -> float:
    """The time one place takes for runs that it starts in this order, `at_once` at a time.

    With the servers' number as `at_once` it is the makespan of servers that claim runs one by one.
    """
    durations = list(hours)
    # More places than runs stay empty; without any run the makespan is 0.
    ends = [0.0] * max(1, min(at_once, len(durations)))
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def lower_bound(hours: Sequence[float], servers: int) -> float:
    """What no division among `servers` can beat.

    The longest run; the total spread evenly; and of the `servers` + 1 longest runs two must share a
    server, at best the two shortest of them.
    """
    if not hours:
        return 0.0
    longest = sorted(hours, reverse=True)
    sharing = sum(longest[servers - 1 : servers + 1]) if len(longest) > servers else 0.0
    return max(longest[0], sum(longest) / servers, sharing)
