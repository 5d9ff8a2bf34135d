"""The union of plans: what is added, in which order, and that no order of inputs matters."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.grids import make_grid

from merge.records.growth import Growth
from merge.records.plan_changes import plan_changes
from merge.records.plan_growth import grow_by_copy, grow_by_study, growth_notes
from merge.records.plan_union import common_plan, grown_plan
from merge.records.sweep import Axis, Sweep, sweep_from_json
from merge.storage.json_files import canonical_json

ENTRY = Growth(at=5.0, by="ann", host="here", source="study.yaml", study="name: test")


def text_of(sweep: Sweep) -> bytes:
    return canonical_json(sweep.to_json())


def grids() -> st.SearchStrategy[Sweep]:
    cells = st.lists(st.sampled_from("abcd"), min_size=1, unique=True)
    folds = st.lists(st.sampled_from([0, 1, 2, 10]), min_size=1, unique=True)
    titles = st.sampled_from(["one", "two"])
    return st.builds(
        lambda cells, folds, title: replace(make_grid(cells=cells, folds=folds), title=title),
        *(cells, folds, titles),
    )


@given(parts=st.lists(grids(), min_size=1, max_size=4), data=st.data())
def test_any_order_and_grouping_gives_one_plan(parts: list[Sweep], data: st.DataObject) -> None:
    whole = reduce(common_plan, parts)
    order = data.draw(st.permutations([*parts, *parts[:1]]))
    cut = data.draw(st.integers(1, len(order)))
    first, rest = reduce(common_plan, order[:cut]), order[cut:]
    other = common_plan(first, reduce(common_plan, rest)) if rest else first
    assert text_of(other) == text_of(whole)
    assert {run.run_id for run in whole.runs} == {r.run_id for part in parts for r in part.runs}


@pytest.mark.parametrize("unite", [common_plan, grown_plan])
@pytest.mark.parametrize(
    ("parts", "values"),
    [
        (([0], [1]), [0, 1]),
        (([0, 2], [1, 2]), [0, 1, 2]),
        (([9], [10]), [9, 10]),
        ((["p"], ["p", "c"]), ["p", "c"]),
        ((["p", "c"], ["p"]), ["p", "c"]),
        (([0.1, 0.01], [0.1]), [0.1, 0.01]),
        (([0], [0, 0.5]), [0, 0.5]),
    ],
)
def test_values_stand_as_in_a_plan_that_was_made_whole(unite, parts, values) -> None:
    whole = make_grid(folds=values)
    for order in permutations(parts):
        assert text_of(unite(*(make_grid(folds=part) for part in order))) == text_of(whole)


def test_a_folder_keeps_the_order_in_which_texts_were_planned() -> None:
    plans = [make_grid(cells=[cell]) for cell in "bca"]
    assert reduce(grown_plan, plans).axis("cell").values == ("b", "c", "a")


def test_a_value_beside_the_table_comes_into_the_table() -> None:
    beside = make_grid(cells=("a", "b"))
    runs = tuple(replace(run, in_table=run.cell == "a") for run in beside.runs)
    axes = (Axis(name="cell", values=("a",), also=("b",)), beside.axes[1])
    beside = replace(beside, axes=axes, runs=runs)
    table = make_grid(cells=("a", "b"))
    assert plan_changes(beside, table) == ()
    for united in (grown_plan(beside, table), common_plan(table, beside)):
        assert text_of(united) == text_of(table)


def test_a_run_that_meets_another_one_is_a_change() -> None:
    planned = make_grid(folds=(0, 1))
    (run,) = make_grid(folds=(7,)).runs
    alone = replace(make_grid(folds=(7,)), runs=(run,))

    def changed(**fields: object) -> tuple[str, ...]:
        return plan_changes(planned, replace(alone, runs=(replace(run, **fields),)))

    assert changed() == ()
    ids = "(in 1 run: pascal5i_resnet50_1shot-fold1)"
    # One folder, in the eyes of a file system without upper and lower case.
    path = "pascal5i_resnet50_1shot/FOLD1"
    assert f"path: pascal5i_resnet50_1shot/fold1 -> {path} {ids}" in changed(path=path)
    (inside,) = changed(path="pascal5i_resnet50_1shot/fold1/x")
    assert inside.startswith("folder: ")
    # Two configurations in one cell would be one mean.
    axes = {"cell": "other", "fold": 7}
    (mixed,) = changed(axes=axes)
    assert mixed.startswith(
        'cell pascal5i_resnet50_1shot: cell="pascal5i_resnet50_1shot" -> cell="other" (in 1 run: '
    )
    (renamed,) = changed(cell="renamed")
    assert renamed.startswith("cell: pascal5i_resnet50_1shot -> renamed (in 1 run: ")
    # The same point of the grid, written otherwise.
    moved = changed(axes={**run.axes, "fold": 1.0}, path="elsewhere")
    assert f"path: pascal5i_resnet50_1shot/fold1 -> elsewhere {ids}" in moved


def test_growth_is_recorded_and_read_back() -> None:
    planned, asked = make_grid(folds=(0,)), make_grid(folds=(0, 1))
    grown = grow_by_study(planned, asked, ENTRY)
    assert grown.growth == (replace(ENTRY, runs=("pascal5i_resnet50_1shot-fold1",)),)
    assert sweep_from_json(grown.to_json()) == grown
    assert grow_by_study(grown, asked, ENTRY) is grown
    assert "growth" not in planned.to_json()


def test_title_and_published_numbers_are_those_of_the_last_study() -> None:
    planned = make_grid()
    other = replace(planned, title="new", published={"source": "x", "cells": {}})
    grown = grow_by_study(planned, other, ENTRY)
    assert (grown.title, grown.published) == (other.title, other.published)
    assert [(each.changed, each.study) for each in grown.growth] == [(("title", "published"), "")]
    assert growth_notes(planned, other) == [
        "the plan takes the study's new title",
        "the plan takes the study's new published numbers",
    ]
    # Two people with two titles, one after the other: the list does not grow for ever.
    for at in range(10, 20):
        title = f"title {at % 2}"
        grown = grow_by_study(grown, replace(other, title=title), replace(ENTRY, at=float(at)))
    assert len(grown.growth) == 2
    # A copy of the plan brings its title where that was changed later, and only there.
    assert grow_by_copy(planned, grown, ENTRY).title == "title 1"
    assert grow_by_copy(grown, planned, ENTRY) == grown


def test_copies_that_grow_apart_end_equal_and_each_growth_is_told_once() -> None:
    first = make_grid(folds=(0,))
    ours = grow_by_study(first, make_grid(folds=(0, 1)), replace(ENTRY, by="ann"))
    theirs = grow_by_study(first, make_grid(folds=(0, 2)), replace(ENTRY, by="bob", at=9.0))
    one, other = grow_by_copy(ours, theirs, ENTRY), grow_by_copy(theirs, ours, ENTRY)
    assert text_of(one) == text_of(other)
    assert [(each.by, len(each.runs)) for each in one.growth] == [("ann", 1), ("bob", 1)]
    # What no entry tells of yet gets one.
    foreign = grow_by_copy(ours, make_grid(folds=(5,)), replace(ENTRY, by="eve", source="s3://b"))
    assert [(each.by, each.runs) for each in foreign.growth][1:] == [
        ("eve", ("pascal5i_resnet50_1shot-fold5",))
    ]


def test_notes_name_runs_that_come_and_those_that_stay() -> None:
    assert growth_notes(make_grid(folds=(0, 1)), make_grid(folds=(1, 2))) == [
        "this study adds 1 run to the 2 planned before: pascal5i_resnet50_1shot-fold2",
        "this study does not name 1 of the 2 planned runs; they stay in the plan and in the "
        "table: pascal5i_resnet50_1shot-fold0",
    ]


def test_one_text_of_two_types_is_no_second_value() -> None:
    # In a table, a filter and a comparison both are `1`.
    planned = make_grid(cells=["1", "2"], folds=[0])
    number = replace(planned.runs[0], run_id="n", path="n", cell="n", axes={"cell": 1, "fold": 0})
    cells = Axis(name="cell", values=(1, "2"))
    retyped = replace(planned, axes=(cells, planned.axes[1]), runs=(number, planned.runs[1]))
    assert plan_changes(planned, retyped) == (
        f'axis cell: "1" -> 1 (in 1 run: {planned.runs[0].run_id})',
    )
