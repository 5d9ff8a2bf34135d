"""A published mean is set against a mean over the same values of the averaged axis only."""

from __future__ import annotations

from typing import Any

import pytest
from support.grids import make_grid, make_result

from merge.results.collect import Collected
from merge.results.combine import Merged, combine
from replicate.report.content import Cell, Verdict, make_report
from replicate.report.forms import html_report, latex_report, markdown_report
from replicate.views.table import notes, results_table

PUBLISHED = {0: 0.4, 1: 0.6, "mean": 0.5}


def merged_of(folds: tuple[int, ...], published: dict[Any, float]) -> Merged:
    sweep = make_grid(
        cells=("a",), folds=folds, published={"method": "M", "cells": {"a": published}}
    )
    results = {run.run_id: make_result(run, 0.5) for run in sweep.runs}
    return combine({"out": Collected(sweep=sweep, results=results, problems=(), aside=())})


def cell_of(merged: Merged) -> Cell:
    (cell,) = make_report(merged, {}, {}, (), ()).cells
    return cell


@pytest.mark.parametrize("folds", [(0,), (0, 1, 2)])
def test_a_mean_over_other_folds_is_not_compared(folds: tuple[int, ...]) -> None:
    merged = merged_of(folds, PUBLISHED)
    assert results_table(merged.sweep, merged.document)[-1].split()[-2:] == ["50.0", "-"]
    (line,) = notes(merged.document)
    over = ", ".join(map(str, folds))
    assert line == f"not compared: a is a mean over fold {over}, the published one over 0, 1"
    cell = cell_of(merged)
    assert (cell.verdict, cell.difference) == (Verdict.OTHER_VALUES, None)
    report = make_report(merged, {}, {}, (), ())
    for render in (markdown_report, html_report, latex_report):
        text = render(report)
        assert f"50.0 (fold {over})" in text
        assert Verdict.WITHIN not in text


@pytest.mark.parametrize("published", [PUBLISHED, {"mean": 0.5}, {0: 0.4, "mean": 0.5}])
def test_a_mean_over_the_same_folds_or_over_unknown_ones_is_compared(
    published: dict[Any, float],
) -> None:
    merged = merged_of((0, 1), published)
    assert results_table(merged.sweep, merged.document)[-1].split()[-2:] == ["50.0", "+0.0"]
    assert cell_of(merged).verdict is Verdict.WITHIN
    assert notes(merged.document) == []
