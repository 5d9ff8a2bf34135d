"""A mean over part of what it should be over says so, wherever the number stands."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.grids import make_grid, make_result, write_result, write_sweep

from merge.__main__ import main as merge_main
from merge.api import merge_results, to_pandas
from merge.errors import IncomparableError
from merge.records.manifest import manifest_from_json
from merge.records.metrics import Metric
from merge.results.entries import entry_of
from merge.results.paired import compare
from merge.results.view import rebuild, rebuild_with_results
from replicate.report.csv_rows import csv_report
from replicate.report.figures import heat_map
from replicate.report.forms import html_report, latex_report, markdown_report
from replicate.report.gather import read_report
from replicate.report.settings import further_metrics
from replicate.views.table import notes, results_table

MANIFEST = manifest_from_json(
    {
        "metrics": {
            "miou": {
                "unit": "percent",
                "mean_over": {"parts": "organs", "values": "by_organ"},
                "suspect": {"value": 0, "means": "nothing was found"},
            }
        }
    }
)
CELL = "pascal5i_resnet50_1shot"
PUBLISHED = {
    "source": "table 1",
    "method": "PAPER",
    "cells": {CELL: {"0": 0.4, "1": 0.4, "mean": 0.4}},
    "tolerance": 0.5,
}
WHOLE = {"heart": 0.5, "lung": 0.6, "skin": 0.0}
PART = {"heart": 0.5, "lung": None, "skin": None}


def grid(**fields):
    return replace(make_grid(folds=(0, 1), **fields), frozen_manifest=MANIFEST)


def details(by_organ, **more):
    return {"reported": "best", "best": {"by_organ": by_organ, **more}}


@pytest.fixture
def output(tmp_path):
    """A folder with a cell of two folds, the second over one organ of three."""
    sweep = grid(published=PUBLISHED)
    write_sweep(tmp_path, sweep)
    for run, by_organ in zip(sweep.runs, (WHOLE, PART), strict=True):
        write_result(tmp_path, run, 0.5, details=details(by_organ))
    return tmp_path


def test_the_merged_view_says_of_which_run_how_much_counts(output):
    cell = rebuild(output).document["results"][CELL]
    part = {"counted": 1, "of": 3, "missing": ["lung", "skin"], "text": "1/3 organs"}
    assert cell["parts"] == {"1": {"miou": part}}
    assert cell["mean"] == {"miou": 0.5}
    assert merge_results(output / "replication_results.json")["results"][CELL] == cell


def test_a_whole_result_leaves_no_word(tmp_path):
    sweep = grid()
    write_sweep(tmp_path, sweep)
    for run in sweep.runs:
        write_result(tmp_path, run, 0.5, details=details(WHOLE))
    cell = rebuild(tmp_path).document["results"][CELL]
    assert {"parts", "flags", "remarks"}.isdisjoint(cell)


def test_over_several_test_lists_a_part_counts_where_each_has_it():
    lists = [{"by_organ": WHOLE}, {"by_organ": {**WHOLE, "skin": None}}]
    result = make_result(
        grid().runs[0],
        0.5,
        details={"reported": "best", "test_seeds": [1, 2], "best": {"by_test_seed": lists}},
    )
    assert entry_of(result, MANIFEST).measured["parts"] == {
        "miou": {"counted": 2, "of": 3, "missing": ["skin"]}
    }


def test_strict_refuses_a_mean_over_a_part(output):
    said = r"miou is a mean over a part of the organs: 1 \(1/3 organs\)"
    with pytest.raises(IncomparableError, match=said):
        rebuild(output, is_strict=True)


def test_the_table_shows_the_part_and_no_difference_to_what_is_published(output):
    merged = rebuild(output)
    header, _, row = results_table(merged.sweep, merged.document)
    assert row.split("  ")[0] == CELL
    assert "50.0 (1/3 organs)" in row
    assert row.count("(1/3 organs)") == 2, "beside the fold and beside the mean"
    assert header.split()[-2:] == ["published", "diff"]
    assert row.split()[-2:] == ["40.0", "-"]
    (line,) = notes(merged.document)
    assert line.startswith(f"not whole: {CELL}: miou is a mean over a part of the organs")


def test_a_further_metric_over_a_part_says_so_too(tmp_path):
    manifest = replace(MANIFEST, metrics=(*MANIFEST.metrics, Metric(name="other")))
    sweep = replace(grid(metric="other"), frozen_manifest=manifest)
    write_sweep(tmp_path, sweep)
    for run in sweep.runs:
        metrics = {"miou": 0.5, "other": 1.0}
        write_result(tmp_path, run, 0.5, metrics=metrics, details=details(PART))
    rows = further_metrics(read_report(tmp_path, *rebuild_with_results(tmp_path)))
    assert rows[1] == [CELL, "50.0 ± 0.0 (1/3 organs)"]


@pytest.mark.parametrize("form", [markdown_report, html_report, latex_report, csv_report])
def test_every_form_of_the_report_shows_the_part(output, form):
    report = read_report(output, *rebuild_with_results(output))
    text = form(report)
    assert "1/3 organs" in text
    assert "within tolerance" not in text.replace("within tolerance is at most", "")
    # The whole number of fold 0 may be the best of its column; the mean over a part may not.
    assert r"\textbf{50.0 (" not in text


def test_a_part_is_not_set_against_a_published_number_in_the_heat_map(output):
    report = read_report(output, *rebuild_with_results(output))
    assert report.cells[0].verdict == "not whole"
    assert report.cells[0].difference is None
    # Fold 0 is whole and has its difference; fold 1 has a dash.
    assert heat_map(report).svg.count("+10.0") == 1


def test_merging_alone_and_pandas_show_the_part(output, capsys):
    assert merge_main([str(output)]) == 0
    assert "mean miou 0.5000 (1/3 organs) over 2" in capsys.readouterr().out
    assert to_pandas(output)["counted_miou"].dropna().to_list() == ["1/3"]


def test_numbers_over_different_parts_are_no_pair():
    sweep = grid(cells=("a", "b"))
    counted = {
        run.run_id: entry_of(
            make_result(run, 0.5, details=details(PART if run.cell == "b" else WHOLE)), MANIFEST
        )
        for run in sweep.runs
    }
    [comparison] = compare(sweep, counted, "cell", ("a", "b"))
    said = "miou is over all and 1/3 organs (without lung, skin)"
    assert comparison.warnings == (f"all fold=0: {said}", f"all fold=1: {said}")


def test_a_value_that_says_that_nothing_was_learnt_is_remarked(tmp_path):
    sweep = grid()
    write_sweep(tmp_path, sweep)
    for run, value in zip(sweep.runs, (0.0, 0.4), strict=True):
        write_result(tmp_path, run, value)
    document = rebuild(tmp_path).document
    assert document["results"][CELL]["remarks"] == ["miou is 0 for fold 0: nothing was found"]
    assert notes(document) == [f"remark: {CELL}: miou is 0 for fold 0: nothing was found"]


def test_percent_beside_fractions_is_flagged_where_no_range_refuses_it(tmp_path):
    free = manifest_from_json({"metrics": {"miou": {"unit": "number"}}})
    sweep = replace(make_grid(folds=(0, 1, 2)), frozen_manifest=free)
    write_sweep(tmp_path, sweep)
    for run, value in zip(sweep.runs, (66.3, 0.15, 0.16), strict=True):
        write_result(tmp_path, run, value)
    (flag,) = rebuild(tmp_path).document["results"][CELL]["flags"]
    assert flag["runs"] == {"above 1": ["0"], "at most 1": ["1", "2"]}
