"""Unequal runs end at about the same time on every server, and no run is left out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.grids import make_grid

from merge.errors import UsageError
from merge.records.sweep import Run
from orchestrator.plan.balance import lower_bound, makespan, shard_balanced
from orchestrator.plan.durations import Estimate, estimate, longest_first
from orchestrator.plan.selection import select
from orchestrator.plan.shards import shard_by
from orchestrator.studies.grid import expand
from orchestrator.studies.load import load_study

STUDY = Path(__file__).resolve().parents[4] / "replicate" / "studies" / "abcb.yaml"
HOURS = st.lists(st.floats(0.01, 100), min_size=1, max_size=24)


@cache
def table() -> tuple[tuple[Run, ...], dict[str, Estimate]]:
    """The 32 runs of the paper's tables, with the hours that HDMNet took for such folds."""
    study = load_study(STUDY, published_folders=(STUDY.parent.parent / "published",))
    runs = select(expand(study), study.axes, {})
    return runs, estimate(runs, {})


def runs_of(hours: list[float]) -> tuple[tuple[Run, ...], dict[str, Estimate]]:
    runs = make_grid(folds=range(len(hours))).runs
    return runs, {r.run_id: Estimate(h, "study") for r, h in zip(runs, hours, strict=True)}


@pytest.mark.parametrize("servers", [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32])
def test_balanced_shards_and_claims_come_within_5_percent_of_the_bound(servers: int) -> None:
    runs, hours = table()
    bound = lower_bound([hours[run.run_id].hours for run in runs], servers)
    shards = shard_balanced(runs, servers, hours)
    balanced = max(sum(hours[run.run_id].hours for run in shard.runs) for shard in shards)
    claimed = makespan([hours[r.run_id].hours for r in longest_first(runs, hours)], servers)
    assert bound <= balanced <= 1.05 * bound
    assert bound <= claimed <= 1.05 * bound


def test_the_split_by_dataset_and_backbone_leaves_half_of_the_servers_idle() -> None:
    runs, hours = table()
    static = [
        sum(hours[run.run_id].hours for run in shard.runs)
        for shard in shard_by(runs, ["dataset", "backbone"])
    ]
    assert max(static) > 1.6 * lower_bound([hours[run.run_id].hours for run in runs], 4)


@given(HOURS, st.integers(1, 30))
def test_every_run_is_in_exactly_one_balanced_shard(hours: list[float], count: int) -> None:
    runs, estimates = runs_of(hours)
    shards = shard_balanced(runs, count, estimates)
    assert len(shards) == count
    assert sorted(run.run_id for s in shards for run in s.runs) == sorted(r.run_id for r in runs)


@given(HOURS, st.integers(1, 8))
def test_no_division_beats_the_bound_and_balanced_is_never_far_from_it(
    hours: list[float], count: int
) -> None:
    runs, estimates = runs_of(hours)
    longest = makespan(sorted(hours, reverse=True), count)
    shards = shard_balanced(runs, count, estimates)
    balanced = max(sum(estimates[run.run_id].hours for run in shard.runs) for shard in shards)
    bound = lower_bound(hours, count)
    assert bound <= balanced * (1 + 1e-9)
    assert balanced == pytest.approx(longest)
    # Graham's 4/3 holds against the best division, which is at most twice the bound.
    assert balanced <= 4 / 3 * 2 * bound


@given(HOURS, st.integers(1, 8))
def test_more_places_at_once_never_take_longer_than_one(hours: list[float], places: int) -> None:
    assert max(hours) <= makespan(hours, places) * (1 + 1e-9)
    assert makespan(hours, places) <= sum(hours) * (1 + 1e-9)
    assert makespan(hours) == pytest.approx(sum(hours))
    assert makespan(hours, 10**20) == max(hours)


def test_equally_long_runs_stay_in_the_order_of_the_grid() -> None:
    runs, estimates = runs_of([1.0, 2.0, 1.0, 2.0])
    assert [run.axes["fold"] for run in longest_first(runs, estimates)] == [1, 3, 0, 2]


def test_no_shard_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="1 or more"):
        shard_balanced((), 0, {})


def test_a_study_states_hours_for_each_run() -> None:
    runs, hours = table()
    assert {e.source for e in hours.values()} == {"study"}
    assert sum(e.hours for e in hours.values()) == pytest.approx(8 * (7.5 + 18.8 + 27.4 + 88.8))
    assert replace(runs[0].resources, hours=None).hours is None
