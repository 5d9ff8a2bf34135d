"""Intervals agree with scipy; means over folds, seeds and both say what they cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support.grids import entry_of, make_grid, make_result

from merge.records.sweep import Axis, Run, Sweep
from merge.results.cells import cell_view
from merge.results.combine import combine
from merge.results.spread import over_both
from merge.results.statistics import t_interval, t_quantile
from merge.results.unite import Contribution


@given(st.floats(0.51, 0.9995), st.integers(1, 300))
def test_the_t_quantile_is_that_of_scipy(probability, degrees):
    assert t_quantile(probability, degrees) == pytest.approx(
        stats.t.ppf(probability, degrees), rel=1e-7, abs=1e-8
    )


def test_the_t_interval_says_what_it_is_over():
    values = [0.66, 0.67, 0.73, 0.73]
    interval = t_interval(values, "fold")
    expected = stats.t.interval(0.95, 3, loc=0.6975, scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-9)
    assert interval.method == "t over 4 folds"
    assert t_interval([0.5], "fold") is None


def chosen(sweep, **fields):
    return {r.run_id: entry_of(make_result(r, 0.5, **fields)) for r in sweep.runs}


def test_a_cell_of_runs_with_bootstrap_errors_has_an_episode_interval():
    sweep = make_grid()
    details = {"reported": "best", "best": {"bootstrap": {"standard_error": {"miou": 0.02}}}}
    view = cell_view(sweep, sweep.manifest, sweep.runs, chosen(sweep, details=details), ())
    assert view["ci"]["method"] == "episode bootstrap within 4 folds"
    assert view["ci"]["high"] - 0.5 == pytest.approx(1.96 * 0.02 / 2, rel=1e-3)


def test_one_run_without_bootstrap_leaves_the_interval_over_folds():
    sweep = make_grid()
    details = {"reported": "best", "best": {"bootstrap": {"standard_error": {"miou": 0.02}}}}
    entries = chosen(sweep, details=details)
    entries[sweep.runs[0].run_id] = entry_of(make_result(sweep.runs[0], 0.6))
    assert (
        cell_view(sweep, sweep.manifest, sweep.runs, entries, ())["ci"]["method"]
        == "t over 4 folds"
    )


def test_an_incomplete_cell_has_no_interval():
    sweep = make_grid()
    entries = dict(list(chosen(sweep).items())[:3])
    assert "ci" not in cell_view(sweep, sweep.manifest, sweep.runs, entries, ())


def test_test_seeds_have_their_own_spread():
    sweep = make_grid()
    seeds = [{"miou": 0.4}, {"miou": 0.6}]
    details = {"reported": "best", "test_seeds": [1, 2], "best": {"by_test_seed": seeds}}
    view = cell_view(sweep, sweep.manifest, sweep.runs, chosen(sweep, details=details), ())
    assert view["test_seeds"]["mean_by_seed"] == {"1": 0.4, "2": 0.6}
    assert view["test_seeds"]["std"] == pytest.approx(0.02**0.5)


def seeded_sweep() -> Sweep:
    axes = (Axis(name="seed", values=(0, 1)), Axis(name="fold", values=(0, 1)))
    runs = tuple(
        Run(
            run_id=f"seed{seed}-fold{fold}",
            path=f"seed{seed}/fold{fold}",
            cell=f"seed{seed}",
            axes={"seed": seed, "fold": fold},
            config={},
            config_hash="h",
        )
        for seed in (0, 1)
        for fold in (0, 1)
    )
    return Sweep(
        study="seeds",
        title="",
        axes=axes,
        average_over="fold",
        metric="miou",
        goal="max",
        settings={},
        runs=runs,
        code={},
    )


def test_folds_and_seeds_are_taken_apart_and_together():
    sweep = seeded_sweep()
    mious = dict(zip((run.run_id for run in sweep.runs), (0.5, 0.7, 0.6, 0.8), strict=True))
    entries = {run.run_id: entry_of(make_result(run, mious[run.run_id])) for run in sweep.runs}
    view = over_both(sweep, entries)["all"]
    assert view["mean"] == pytest.approx(0.65)
    assert view["by_seed"] == pytest.approx({"0": 0.6, "1": 0.7})
    assert view["by_fold"] == pytest.approx({"0": 0.55, "1": 0.75})
    assert view["std"]["seed"] == pytest.approx(0.005**0.5)
    assert view["std"]["fold"] == pytest.approx(0.02**0.5)
    assert view["std"]["both"] == pytest.approx(np.std([0.5, 0.7, 0.6, 0.8], ddof=1))
    low, high = stats.t.interval(0.95, 1, loc=0.65, scale=stats.sem([0.6, 0.7]))
    assert view["ci"]["method"] == "t over 2 seeds"
    assert (view["ci"]["low"], view["ci"]["high"]) == pytest.approx((low, high))


def test_a_missing_run_leaves_no_mean_over_both():
    sweep = seeded_sweep()
    entries = {run.run_id: entry_of(make_result(run, 0.5)) for run in sweep.runs[:3]}
    view = over_both(sweep, entries)["all"]
    assert (view["mean"], view["missing"], view["complete"]) == (None, ["seed1-fold1"], False)
    assert view["by_seed"] == {"0": 0.5, "1": None}


def test_a_cell_whose_runs_are_all_beside_the_table_is_never_complete():
    sweep = make_grid(folds=(0, 1))
    cell, fold = sweep.axes
    sweep = replace(sweep, axes=(cell, replace(fold, values=(7,), also=(0, 1))))
    entries = {run.run_id: [entry_of(make_result(run, 0.5))] for run in sweep.runs}
    document = combine({"x": Contribution(sweep=sweep, entries=entries)}).document
    [view] = document["results"].values()
    assert (view["complete"], view["n"], view["mean"]) == (False, 0, None)
