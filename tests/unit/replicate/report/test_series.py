"""A metric at several steps of one prediction, as the experiment's manifest names it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.grids import make_grid, make_result

from merge.records.manifest import Series, manifest_from_json
from merge.records.result import Result
from merge.results.collect import Collected
from merge.results.combine import combine
from replicate.report.content import Report, make_report
from replicate.report.forms import html_report, markdown_report
from replicate.report.series import series_table

WORDS = Series(details="by_pass", label="pass", title="mIoU by pass")


def report_of(series: dict[int, list[float]], words: Series | None = WORDS) -> Report:
    """One cell of folds 0 to 2; `series` by fold, of the runs that are done."""
    sweep = make_grid(cells=("cell",), folds=(0, 1, 2))
    shown = replace(sweep.manifest.report, series=words)
    sweep = replace(sweep, frozen_manifest=replace(sweep.manifest, report=shown))
    results: dict[str, Result] = {}
    for run in sweep.runs:
        if run.axes["fold"] in series:
            best = {"epoch": 3, "by_pass": series[run.axes["fold"]]}
            details = {"reported": "best", "best": best, "final": {"by_pass": [0.0, 0.0]}}
            results[run.run_id] = make_result(run, 0.5, details=details)
    collected = Collected(sweep=sweep, results=results, problems=(), aside=())
    return make_report(combine({"out": collected}), results, {}, (), ())


def test_each_step_is_a_mean_over_the_reported_epochs_and_the_gain_is_shown():
    report = report_of({0: [0.5, 0.6, 0.7], 1: [0.6, 0.6, 0.5], 2: [0.4, 0.6, 0.6]})
    assert series_table(report) == [
        ["cell", "pass 1", "pass 2", "pass 3", "last - first", "runs with the last above", "n"],
        ["cell", "50.0", "60.0", "60.0", "+10.0", "2 of 3", "3/3"],
    ]
    for render in (markdown_report, html_report):
        assert "mIoU by pass" in render(report)


def test_a_cell_with_fewer_runs_says_so_and_runs_of_other_lengths_have_no_mean():
    assert series_table(report_of({1: [0.5, 0.6]}))[1][-1] == "1/3"
    (row,) = series_table(report_of({0: [0.5, 0.6], 1: [0.5, 0.6, 0.7]}))[1:]
    assert row == ["cell", "–", "–", "–", "–", "–", "2/3"]


def test_a_run_of_a_value_that_no_table_shows_is_no_part_of_a_mean():
    whole = report_of({0: [0.5, 0.6], 1: [0.6, 0.7], 2: [0.1, 0.1]})
    fold = whole.sweep.axis("fold")
    sweep = replace(
        whole.sweep, axes=(whole.sweep.axes[0], replace(fold, values=(0, 1), also=(2,)))
    )
    collected = Collected(sweep=sweep, results=dict(whole.results), problems=(), aside=())
    report = make_report(combine({"out": collected}), whole.results, {}, (), ())
    assert series_table(report)[1] == ["cell", "55.0", "65.0", "+10.0", "2 of 2", "2/2"]


@pytest.mark.parametrize("series", [{}, {0: [0.5]}, {0: ["high", "higher"]}, {0: "0.5"}])
def test_without_two_steps_there_is_no_table(series):
    assert series_table(report_of(series)) == []
    assert series_table(report_of({0: [0.5, 0.6]}, words=None)) == []


def test_a_plan_keeps_the_words():
    manifest = report_of({}).sweep.manifest
    assert manifest_from_json(manifest.to_json()).report.series == WORDS
