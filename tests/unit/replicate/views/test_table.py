"""The printed table: percent for our experiments, marks for what is missing."""

from __future__ import annotations

from dataclasses import replace

from support.grids import make_grid, make_result

from merge.results.collect import Collected
from merge.results.combine import combine
from replicate.views.table import notes, results_table

CELL = "pascal5i_resnet50_1shot"


def merged(sweep, mious, **fields):
    results = {
        run.run_id: make_result(run, mious[run.axes["fold"]], **fields)
        for run in sweep.runs
        if run.axes["fold"] in mious
    }
    return combine({"out": Collected(sweep=sweep, results=results, problems=(), aside=())}).document


def words(line: str) -> list[str]:
    return line.split()


def test_a_complete_cell_shows_mean_std_and_the_difference_to_the_published_value():
    sweep = make_grid(published={"source": "paper", "cells": {CELL: {"mean": 0.706}}})
    lines = results_table(sweep, merged(sweep, {0: 0.7, 1: 0.72, 2: 0.68, 3: 0.74}))
    assert lines[0].startswith("miou (%)")
    assert words(lines[2]) == [
        CELL,
        "70.0",
        "72.0",
        "68.0",
        "74.0",
        "71.0",
        "2.6",
        "4/4",
        "70.6",
        "+0.4",
    ]


def test_an_incomplete_cell_shows_no_mean_but_what_is_missing():
    sweep = make_grid(published={"cells": {CELL: {"mean": 0.706}}})
    document = merged(sweep, {0: 0.7, 3: 0.74})
    line = results_table(sweep, document, missing_text=lambda run: f"run{run.axes['fold']}")[2]
    assert words(line) == [
        CELL,
        "70.0",
        "run1",
        "run2",
        "74.0",
        "incomplete",
        "-",
        "2/4",
        "70.6",
        "-",
    ]
    assert notes(document) == [f"incomplete: {CELL} lacks fold 1, 2: no mean is shown"]


def test_a_foreign_commands_metric_is_shown_as_given():
    sweep = make_grid()
    foreign = replace(
        sweep, runs=tuple(replace(run, experiment=None, command=("true",)) for run in sweep.runs)
    )
    lines = results_table(foreign, merged(foreign, dict.fromkeys(range(4), 2.5)))
    assert lines[0].startswith("miou ")
    assert words(lines[2])[1:6] == ["2.5", "2.5", "2.5", "2.5", "2.5"]


def test_the_untrained_score_stands_beside_the_trained_one_where_every_run_recorded_it():
    sweep = make_grid()
    document = merged(sweep, dict.fromkeys(range(4), 0.6), details={"untrained": {"miou": 0.21}})
    lines = results_table(sweep, document)
    assert words(lines[0])[-1] == "untrained"
    assert words(lines[2])[-1] == "21.0"


def test_differences_between_runs_of_a_cell_are_noted():
    sweep = make_grid()
    document = merged(sweep, {0: 0.5, 1: 0.6})
    document["results"][CELL]["flags"] = [
        {"differs": "code.source", "runs": {"abc": ["0"], "def": ["1"]}}
    ]
    assert any(
        "not comparable" in line and "0 (abc) and 1 (def)" in line for line in notes(document)
    )
