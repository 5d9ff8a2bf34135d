"""The report as CSV: a row for each run of the table, done or not. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from merge.records.sweep import Run
from replicate.report.content import Report
from replicate.report.escaping import csv_text


@dataclass(frozen=True, slots=True)
class _Column:
    """One column: its kind and name, and its value for a run."""

    kind: Literal["axis", "metric", "run"]
    name: str
    value: Callable[[Run], object]


def csv_report(report: Report) -> str:
    """Comma-separated text with a header; numbers in the metric's own unit, absent ones empty.

    Axes and metrics have their own names, papergrid's columns begin with `run_`. A name that two
    columns would share gets its kind in front: `metric_loss` beside an axis `loss`.
    """
    columns = _columns(report)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # Names of metrics are foreign text, too: they are keys of result files.
    writer.writerow([csv_text(heading) for heading in _headings(columns)])
    known = {cell.name for cell in report.cells}
    # Runs of `also` values that were not started are no part of the report.
    for run in report.sweep.runs:
        if run.cell in known:
            writer.writerow([_safe(column.value(run)) for column in columns])
    return text.getvalue()


def _columns(report: Report) -> list[_Column]:
    axes = [axis.name for axis in report.sweep.axes]
    metrics = sorted({name for result in report.results.values() for name in result.metrics})
    return [
        _Column("run", "run_id", lambda run: run.run_id),
        _Column("run", "run_cell", lambda run: run.cell),
        *(_Column("axis", name, partial(_axis, name)) for name in axes),
        *(_Column("metric", name, partial(_metric, report, name)) for name in metrics),
        *_own_columns(report),
    ]


def _own_columns(report: Report) -> list[_Column]:
    """What papergrid adds behind axes and metrics."""
    usage = report.usage
    published = {cell.name: cell.published for cell in report.cells}
    parts = {cell.name: cell.parts for cell in report.cells}

    def averaged(run: Run) -> str:
        return str(run.axes[report.sweep.average_over])

    def attempts(run: Run) -> object:
        return usage[run.run_id].num_attempts if run.run_id in usage else ""

    def counted(run: Run) -> object:
        return parts[run.cell].get(averaged(run), "")

    def hours(run: Run) -> object:
        return f"{usage[run.run_id].hours:.4f}" if run.run_id in usage else ""

    own = [
        _Column("run", "run_published", lambda run: published[run.cell].get(averaged(run), "")),
        _Column("run", "run_attempts", attempts),
        _Column("run", "run_hours", hours),
        _Column("run", "run_config_hash", lambda run: run.config_hash),
    ]
    if any(parts.values()):
        own.append(_Column("run", "run_counted", counted))
    return own


def _headings(columns: Iterable[_Column]) -> list[str]:
    """A name of its own for each column."""
    columns = list(columns)
    headings: list[str] = []
    for column in columns:
        others = [other.name for other in columns if other is not column]
        heading = column.name
        while heading in (*others, *headings):
            heading = f"{column.kind}_{heading}"
        headings.append(heading)
    return headings


def _axis(name: str, run: Run) -> object:
    return run.axes.get(name, "")


def _metric(report: Report, name: str, run: Run) -> object:
    result = report.results.get(run.run_id)
    return result.metrics.get(name, "") if result else ""


def _safe(value: object) -> object:
    return csv_text(value) if isinstance(value, str) else value
