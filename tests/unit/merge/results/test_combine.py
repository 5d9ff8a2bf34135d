"""The merged view: what is counted, what is not, and that order does not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.grids import make_grid, make_result

from merge.errors import ConfigChangedError
from merge.results.collect import Collected
from merge.results.combine import combine
from merge.storage.json_files import canonical_json

CELL = "pascal5i_resnet50_1shot"
MIOUS = (0.66, 0.67, 0.73, 0.73)


def collected(sweep, mious, **fields) -> Collected:
    """An output folder's content: `mious` maps a fold to its mIoU."""
    results = {
        run.run_id: make_result(run, mious[run.axes["fold"]], **fields)
        for run in sweep.runs
        if run.axes["fold"] in mious
    }
    return Collected(sweep=sweep, results=results, problems=(), aside=())


def test_a_complete_cell_has_mean_std_n_and_folds():
    sweep = make_grid()
    cell = combine({"a": collected(sweep, dict(enumerate(MIOUS)))}).document["results"][CELL]
    assert cell["mean"]["miou"] == pytest.approx(np.mean(MIOUS), abs=1e-15)
    assert cell["std"]["miou"] == pytest.approx(np.std(MIOUS, ddof=1), abs=1e-15)
    assert (cell["n"], cell["folds"], cell["complete"]) == (4, ["0", "1", "2", "3"], True)
    assert cell["2"] == {"miou": 0.73}


def test_the_mean_over_missing_folds_is_not_called_the_mean():
    merged = combine({"a": collected(make_grid(), {0: 0.5, 2: 0.7})})
    cell = merged.document["results"][CELL]
    assert cell["mean"] is None
    assert cell["std"] is None
    assert cell["missing"] == ["1", "3"]
    assert cell["complete"] is False
    assert cell["mean_of_present"]["miou"] == pytest.approx(0.6)
    assert not merged.is_complete


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_two_halves_merge_to_the_true_mean_in_either_order(order):
    halves = {"a": {0: 0.66, 1: 0.67}, "b": {2: 0.73, 3: 0.73}}
    merged = combine({name: collected(make_grid(), halves[name]) for name in order})
    assert merged.document["results"][CELL]["mean"]["miou"] == pytest.approx(0.6975)


def test_different_results_of_one_run_are_reported_and_not_counted():
    merged = combine(
        {"a": collected(make_grid(), {0: 0.5, 1: 0.6}), "b": collected(make_grid(), {0: 0.9})}
    )
    assert [c.values for c in merged.conflicts] == [(0.5, 0.9)]
    assert "0" not in merged.document["results"][CELL]
    assert merged.conflicts[0].sources == ("a", "b")
    assert [r["value"] for r in merged.document["conflicts"][0]["results"]] == [0.5, 0.9]
    assert not merged.is_clean


def test_the_same_result_in_two_folders_counts_once():
    merged = combine({"a": collected(make_grid(), {0: 0.5}), "b": collected(make_grid(), {0: 0.5})})
    assert merged.is_clean
    assert merged.document["results"][CELL]["n"] == 1


@pytest.mark.parametrize("other", [make_grid(epochs=2), make_grid(folds=(0, 1), epochs=2)])
def test_folders_with_different_plans_are_never_mixed(other):
    with pytest.raises(ConfigChangedError, match="a and b"):
        combine({"a": collected(make_grid(), {0: 0.5}), "b": collected(other, {1: 0.6})})


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("code", "source"),
        ("details", "data_fingerprint"),
        ("details", "protocol"),
        ("details", "test_seeds"),
        ("details", "test_episodes"),
        ("details", "eval_size"),
        ("details", "pair_list"),
    ],
)
def test_runs_that_differ_in_code_or_data_are_flagged(field, key):
    sweep = make_grid()
    content = collected(sweep, {0: 0.5}, **{field: {key: "one"}})
    content.results.update(collected(sweep, {1: 0.6}, **{field: {key: "two"}}).results)
    flags = combine({"a": content}).document["results"][CELL]["flags"]
    assert flags == [{"differs": f"{field}.{key}", "runs": {"one": ["0"], "two": ["1"]}}]


def test_every_planned_cell_is_counted_or_named_as_empty():
    sweep = make_grid(cells=("a", "b"))
    results = {run.run_id: make_result(run, 0.5) for run in sweep.runs if run.cell == "b"}
    document = combine(
        {"x": Collected(sweep=sweep, results=results, problems=(), aside=())}
    ).document
    assert list(document["results"]) == ["b"]
    assert document["cells_without_results"] == ["a"]


@given(
    mious=st.dictionaries(
        st.sampled_from([0, 1, 2, 3]), st.floats(min_value=0, max_value=1), min_size=1
    ),
    data=st.data(),
)
def test_any_partition_and_repetition_merges_to_the_same_bytes(mious, data):
    num_parts = data.draw(st.integers(1, 4))
    parts = [dict(mious) if data.draw(st.booleans()) else {} for _ in range(num_parts)]
    for fold, miou in mious.items():
        parts[data.draw(st.integers(0, num_parts - 1))][fold] = miou
    names = data.draw(st.permutations([f"out{i}" for i in range(num_parts)]))
    # Each part has a plan of its own, with at least the runs that it has results of.
    planned = [{*part, *data.draw(st.sets(st.sampled_from([0, 1, 2, 3]))), 1} for part in parts]
    sweeps = [make_grid(folds=sorted(folds)) for folds in planned]
    inputs = {
        name: collected(sweep, part) for name, sweep, part in zip(names, sweeps, parts, strict=True)
    }
    whole_plan = make_grid(folds=sorted(set.union(*planned)))
    whole = combine({"all": collected(whole_plan, mious)}).document
    assert canonical_json(combine(inputs).document) == canonical_json(whole)


@given(
    mious=st.dictionaries(st.sampled_from([0, 1, 2, 3]), st.floats(0, 1), min_size=1),
    extra=st.sampled_from([0, 1, 2, 3]),
)
def test_adding_a_result_never_removes_one(mious, extra):
    sweep = make_grid()
    before = combine({"a": collected(sweep, mious)}).document["results"][CELL]
    after = combine({"a": collected(sweep, {extra: 0.5, **mious})}).document["results"][CELL]
    assert set(before["folds"]) <= set(after["folds"])
    assert after["n"] >= before["n"]
