"""How long a plan should take: hours of each shard, makespan and its lower bound. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.plan.balance import lower_bound, makespan
from orchestrator.plan.durations import EXPLANATIONS, longest_first
from orchestrator.plan.plan import Plan
from orchestrator.plan.shards import Shard
from replicate.views.table import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardForecast:
    """One shard's part."""

    name: str
    num_runs: int
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Expected hours of a plan, one server a shard."""

    shards: tuple[ShardForecast, ...]
    makespan_h: float
    """Of the division as planned."""
    claimed_h: float
    """Of as many servers that claim the runs one by one, longest first."""
    lower_bound_h: float
    num_left: int
    """Runs that have no result yet."""
    left_h: float
    """Hours of training that they still take together, as `status` says it."""
    has_begun: bool
    """Whether a run is done, or can go on from a checkpoint."""
    bases: tuple[str, ...]
    """Where the hours come from, with the number of runs."""
    is_known: bool
    """False where all hours are mere placeholders."""


def forecast(plan: Plan, at_once: int = 1) -> Forecast:
    """What `plan` is expected to take where each server trains `at_once` runs at a time."""
    hours = [plan.estimates[run.run_id].hours for run in longest_first(plan.runs, plan.estimates)]
    shards = tuple(_of_shard(plan, shard, at_once) for shard in plan.shards)
    # A server that trains several runs at a time counts as that many places, for the bound too.
    places = len(shards) * at_once
    return Forecast(
        shards=shards,
        makespan_h=max((shard.hours for shard in shards), default=0.0),
        claimed_h=makespan(hours, places),
        lower_bound_h=lower_bound(hours, places),
        num_left=sum(plan.estimates[run.run_id].source != "measured" for run in plan.runs),
        left_h=sum(plan.estimates[run.run_id].left_h for run in plan.runs),
        has_begun=any(
            each.source == "measured" or each.begun_h > 0 for each in plan.estimates.values()
        ),
        bases=_bases(plan),
        is_known=any(plan.estimates[run.run_id].source != "unknown" for run in plan.runs),
    )


def _of_shard(plan: Plan, shard: Shard, at_once: int) -> ShardForecast:
    runs = longest_first(shard.runs, plan.estimates)
    hours = makespan((plan.estimates[run.run_id].hours for run in runs), at_once)
    return ShardForecast(name=shard.name, num_runs=len(runs), hours=hours)


def _bases(plan: Plan) -> tuple[str, ...]:
    sources = [plan.estimates[run.run_id].source for run in plan.runs]
    return tuple(
        f"{counted(sources.count(source), 'run')}: {text}"
        for source, text in EXPLANATIONS.items()
        if source in sources
    )
