"""The report as CSV: a row for each run of the table, done or not. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from replicate.report.content import Report
from replicate.report.escaping import csv_text


def csv_report(report: Report) -> str:
    """Comma-separated text with a header; numbers in the metric's own unit, absent ones empty."""
    sweep = report.sweep
    axes = [axis.name for axis in sweep.axes]
    metrics = sorted({name for result in report.results.values() for name in result.metrics})
    names = ["run_id", "cell", *axes, *metrics, "published", "attempts", "hours", "config_hash"]
    parts = {cell.name: cell.parts for cell in report.cells}
    # Only where it is needed: a reader of the columns by number finds them where they were.
    names += ["counted"] if any(parts.values()) else []
    published = {cell.name: cell.published for cell in report.cells}
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    # Names of metrics are foreign text, too: they are keys of result files.
    csv.writer(text, lineterminator="\n").writerow([csv_text(name) for name in names])
    for run in sweep.runs:
        # Runs of `also` values that were not started are no part of the report.
        if run.cell not in published:
            continue
        result = report.results.get(run.run_id)
        used = report.usage.get(run.run_id)
        writer.writerow(
            {
                **{name: _cell(value) for name, value in run.axes.items()},
                **(result.metrics if result else {}),
                "run_id": csv_text(run.run_id),
                "cell": csv_text(run.cell),
                "published": published[run.cell].get(str(run.axes[sweep.average_over]), ""),
                "attempts": used.num_attempts if used else "",
                "hours": f"{used.hours:.4f}" if used else "",
                "config_hash": run.config_hash,
                **_counted(parts[run.cell], str(run.axes[sweep.average_over])),
            }
        )
    return text.getvalue()


def _counted(parts: Mapping[str, str], name: str) -> dict[str, str]:
    return {"counted": csv_text(parts[name])} if name in parts else {}


def _cell(value: object) -> object:
    return csv_text(value) if isinstance(value, str) else value
