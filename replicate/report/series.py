"""A metric that a model has at several steps of one prediction, as a table of text. Pure.

An experiment names it in its manifest (`report: series:`, docs/studies.md), such as the score after
each iteration of a method that refines its prediction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from merge.records.result import Result
from merge.storage.json_files import is_finite_number
from replicate.report.content import Cell, Report
from replicate.report.settings import MISSING


def series_table(report: Report) -> list[list[str]]:
    """Header and a row a cell: the mean at each step over its runs, and whether the last is best.

    Empty where no run has more than one step.
    """
    words = report.sweep.manifest.report.series
    if words is None:
        return []
    by_cell = [(cell, list(_series(report, cell, words.details))) for cell in report.cells]
    num_steps = max((len(s) for _, each in by_cell for s in each), default=0)
    if num_steps < 2:
        return []
    steps = [f"{words.label} {step}" for step in range(1, num_steps + 1)]
    header = ["cell", *steps, "last - first", "runs with the last above", "n"]
    return [header, *(_row(report, cell, each, num_steps) for cell, each in by_cell)]


def _series(report: Report, cell: Cell, name: str) -> Iterator[list[float]]:
    averaged = report.sweep.average_over
    for run in report.sweep.runs:
        # A run of an `also` value is no part of a cell's mean.
        is_counted = run.cell == cell.name and str(run.axes[averaged]) in cell.needed
        result = report.results.get(run.run_id)
        if is_counted and result is not None and (found := _of_result(result, name)):
            yield found


def _of_result(result: Result, name: str) -> list[float]:
    reported = result.details.get(str(result.details.get("reported")))
    values: Any = reported.get(name) if isinstance(reported, dict) else None
    is_series = isinstance(values, list) and all(map(is_finite_number, values))
    return values if is_series else []


def _row(report: Report, cell: Cell, series: list[list[float]], num_steps: int) -> list[str]:
    count = f"{len(series)}/{len(cell.needed)}"
    # Runs of one cell with another number of steps have no common mean.
    if len({len(each) for each in series}) != 1:
        return [cell.name, *[MISSING] * (num_steps + 2), count]
    means = [sum(column) / len(series) for column in zip(*series, strict=True)]
    shown = [report.form.value(value) for value in means]
    above = sum(each[-1] > each[0] for each in series)
    return [
        cell.name,
        *shown,
        *[MISSING] * (num_steps - len(means)),
        report.form.difference(means[-1] - means[0]),
        f"{above} of {len(series)}",
        count,
    ]
