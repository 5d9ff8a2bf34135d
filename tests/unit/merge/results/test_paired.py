"""Two methods over the same folds and seeds: which pairs, what difference, how sure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy import stats
from support.grids import entry_of, make_grid, make_result

from merge.errors import IncompleteError, SelectionError
from merge.results.paired import compare, sign_flip_p

METHODS = ("prototype", "abcb")


def results(missing=(), **details):
    """A sweep with two methods on two datasets, its entries; abcb is better by (fold + 1) %."""
    sweep = make_grid(cells=METHODS)
    counted = {}
    for run in sweep.runs:
        if (run.cell, run.axes["fold"]) in missing:
            continue
        better = (run.axes["fold"] + 1) / 100 if run.cell == "abcb" else 0.0
        given = {"protocol": details.get(run.cell, "bam")}
        counted[run.run_id] = entry_of(make_result(run, 0.5 + better, details=given))
    return sweep, counted


def test_paired_differences_are_those_of_scipy():
    [comparison] = compare(*results(), "cell", METHODS)
    differences = [0.01, 0.02, 0.03, 0.04]
    assert comparison.differences == pytest.approx(differences)
    assert comparison.mean == pytest.approx(0.025)
    low, high = stats.t.interval(0.95, 3, loc=0.025, scale=stats.sem(differences))
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx((low, high))
    reference = stats.permutation_test(
        (differences,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        n_resamples=99,
    )
    assert comparison.p_value == pytest.approx(reference.pvalue) == 0.125
    assert comparison.least_p == 0.125


def test_the_sign_of_the_difference_follows_the_order_of_the_values():
    [comparison] = compare(*results(), "cell", METHODS[::-1])
    assert comparison.mean == pytest.approx(-0.025)


def test_a_pair_that_lacks_a_run_is_named_and_not_counted():
    [comparison] = compare(*results(missing={("abcb", 2)}), "cell", METHODS)
    assert comparison.missing == ("all fold=2: abcb",)
    assert comparison.pairs == ("all fold=0", "all fold=1", "all fold=3")


def test_a_run_whose_counterpart_the_study_excludes_is_no_missing_pair():
    sweep, counted = results()
    kept = tuple(r for r in sweep.runs if (r.cell, r.axes["fold"]) != ("abcb", 2))
    [comparison] = compare(replace(sweep, runs=kept), counted, "cell", METHODS)
    assert (comparison.missing, comparison.excluded) == ((), ("all fold=2: abcb",))
    assert comparison.pairs == ("all fold=0", "all fold=1", "all fold=3")


def test_values_that_the_study_never_pairs_cannot_be_compared():
    sweep, counted = results()
    kept = tuple(r for r in sweep.runs if (r.cell == "abcb") == (r.axes["fold"] > 1))
    with pytest.raises(SelectionError, match="the study excludes one of each two"):
        compare(replace(sweep, runs=kept), counted, "cell", METHODS)


def test_pairs_tested_under_different_protocols_are_told():
    [comparison] = compare(*results(abcb="hsnet"), "cell", METHODS)
    assert "details.protocol differs: bam and hsnet" in comparison.warnings[0]


def test_many_pairs_are_judged_by_drawn_signs_near_the_exact_value():
    differences = [0.01 * (-1) ** i + 0.004 for i in range(16)]
    reference = stats.permutation_test(
        (differences,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        n_resamples=2**16,
    )
    assert sign_flip_p(differences) == pytest.approx(reference.pvalue, abs=0.02)
    assert sign_flip_p(differences) == sign_flip_p(differences)


@pytest.mark.parametrize(
    ("axis", "values", "reason"),
    [
        ("method", METHODS, "no axis 'method'; its axes: cell, fold"),
        ("cell", ("abcb", "hsnet"), "no value 'hsnet'"),
        ("cell", ("abcb", "abcb"), "with itself"),
        ("fold", ("0", "1"), "average over fold"),
    ],
)
def test_what_cannot_be_compared_is_refused(axis, values, reason):
    with pytest.raises(SelectionError, match=reason):
        compare(*results(), axis, values)


def test_nothing_to_compare_yet_is_said():
    with pytest.raises(IncompleteError, match="no run with cell"):
        compare(replace(results()[0]), {}, "cell", METHODS)


@pytest.mark.parametrize(
    ("abcb", "warning"),
    [
        ({"code": {"source": "new"}}, "code.source differs: old and new"),
        (
            {"code": {"source": "old"}, "attempt": 2, "earlier_code": [{"attempts": [1]}]},
            "code of attempts of abcb-fold0: attempt 1: source not recorded; attempt 2: source old",
        ),
        ({"code": {"source": "old", "git_commit": "b"}}, None),
    ],
)
def test_pairs_made_by_other_code_are_told(abcb, warning):
    sweep = make_grid(cells=METHODS, folds=(0,))
    fields = {"prototype": {"code": {"source": "old", "git_commit": "a"}}, "abcb": abcb}
    counted = {r.run_id: entry_of(make_result(r, 0.5, **fields[r.cell])) for r in sweep.runs}
    [comparison] = compare(sweep, counted, "cell", METHODS)
    assert comparison.warnings == ((f"all fold=0: {warning}",) if warning else ())
