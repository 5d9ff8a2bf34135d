"""The results table as text: a cell a row, a value of the averaged axis a column.

Pure: takes the merged view and, where known, each run's state; returns lines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from merge.records.metrics import NUMBER, PERCENT, Metric
from merge.records.sweep import Run, Sweep
from merge.results.cells import COUNTED_KEY, UNUSABLE_KEY, expected_values
from merge.results.flags import flag_lines
from merge.results.parts import (
    REMARKS_KEY,
    is_over_same_values,
    part_of_mean,
    part_text,
    with_part,
)
from replicate.views.columns import align

MISSING = "-"


@dataclass(frozen=True, slots=True)
class Format:
    """How a metric is shown: a fraction times 100 where its unit is percent, else as stored."""

    metric: Metric

    def value(self, number: float) -> str:
        return f"{100 * number:.1f}" if self.is_percent else f"{number:.4g}"

    def difference(self, number: float) -> str:
        return f"{100 * number:+.1f}" if self.is_percent else f"{number:+.4g}"

    @property
    def is_percent(self) -> bool:
        return self.metric.unit == PERCENT

    @property
    def direction(self) -> str:
        """What follows the heading of a metric that is better where it is lower."""
        return ", lower is better" if self.metric.goal == "min" else ""

    @property
    def scale(self) -> int:
        """The factor from a stored to a shown number."""
        return 100 if self.is_percent else 1

    @property
    def unit(self) -> str:
        """What follows the metric's name in a heading: ` (%)`, ` (ms)`, or nothing."""
        if self.metric.unit == NUMBER:
            return ""
        return " (%)" if self.is_percent else f" ({self.metric.unit})"


def results_table(
    sweep: Sweep,
    document: Mapping[str, Any],
    *,
    missing_text: Callable[[Run], str] = lambda _: MISSING,
    cells: Sequence[str] | None = None,
) -> list[str]:
    """`table_rows` as aligned lines."""
    return align(table_rows(sweep, document, missing_text=missing_text, cells=cells))


def table_rows(
    sweep: Sweep,
    document: Mapping[str, Any],
    *,
    missing_text: Callable[[Run], str] = lambda _: MISSING,
    cells: Sequence[str] | None = None,
) -> list[list[str]]:
    """Header and rows of the table for the merged view `document`.

    A run without a result shows `missing_text(run)`. A mean is shown only for a complete cell; the
    row of another says how many of its runs are there. `cells` defaults to all of the table, and
    those with a result.
    """
    merged: Mapping[str, Any] = document["results"]
    rows = _rows_by_cell(sweep, _cells(sweep, merged) if cells is None else cells)
    columns = _columns(sweep, rows)
    form = format_of(sweep)
    published: Mapping[str, Any] = document["published"].get("cells", {})
    has_published = any(cell in published for cell in rows)
    baseline = _baseline(sweep, merged)
    header = [f"{sweep.metric}{form.unit}{form.direction}"]
    header += [f"{sweep.average_over} {name}" for name in columns]
    header += ["mean", "std", "n"]
    header += [baseline] if baseline else []
    header += ["published", "diff"] if has_published else []
    lines = [header]
    for cell, runs in rows.items():
        view = merged.get(cell, {})

        def text(run: Run, view: Mapping[str, Any] = view) -> str:
            name = str(run.axes[sweep.average_over])
            if name not in view:
                return missing_text(run)
            part = part_text(view, name, sweep.metric)
            return with_part(form.value(view[name][sweep.metric]), part)

        line = [cell, *_value_texts(sweep, runs, columns, text)]
        line += _summary(sweep, runs, view, form)
        if baseline:
            value = view.get(baseline, {}).get(sweep.metric)
            line.append(MISSING if value is None else form.value(value))
        if has_published:
            line += _published(sweep, view, published.get(cell, {}), form)
        lines.append(line)
    return lines


def _baseline(sweep: Sweep, merged: Mapping[str, Any]) -> str:
    """The label of the metrics before training; empty where no cell has them."""
    baseline = sweep.manifest.baseline
    if baseline is None or not any(baseline.label in view for view in merged.values()):
        return ""
    return baseline.label


def notes(document: Mapping[str, Any]) -> list[str]:
    """What a reader of the table must know: incomplete cells, flags, conflicts."""
    lines = []
    for cell, view in document["results"].items():
        if UNUSABLE_KEY in view:
            lines.append(f"unusable: {cell}: {view[UNUSABLE_KEY]}")
        if view["missing"]:
            missing = f"{document['average_over']} {', '.join(view['missing'])}"
            lines.append(f"incomplete: {cell} lacks {missing}: no mean is shown")
        lines += [f"remark: {cell}: {text}" for text in view.get(REMARKS_KEY, ())]
        lines += _other_values(cell, view, document)
    lines += flag_lines(document)
    empty = document["cells_without_results"]
    if empty:
        lines.append(f"incomplete: {counted(len(empty), 'cell')} without a result: {some(empty)}")
    return lines + [_conflict_note(entry) for entry in document["conflicts"]]


def _other_values(cell: str, view: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    published = document["published"].get("cells", {}).get(cell, {})
    if not view["complete"] or is_over_same_values(view[COUNTED_KEY], published):
        return []
    axis = document["average_over"]
    ours, theirs = some(view[COUNTED_KEY]), some([str(key) for key in published if key != "mean"])
    return [f"not compared: {cell} is a mean over {axis} {ours}, the published one over {theirs}"]


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of `names`, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _conflict_note(conflict: Mapping[str, Any]) -> str:
    found = " and ".join(
        f"{result['value']:g} ({_origin(result)})" for result in conflict["results"]
    )
    counted = conflict["counted"]
    which = "none is counted" if counted is None else f"that of {counted[:12]} is counted"
    return f"conflict: {conflict['run_id']} has different results: {found}: {which}"


def _origin(result: Mapping[str, Any]) -> str:
    return str(result.get("origin") or f"attempt {result['attempt']} of {result['token'][:12]}")


def counted(number: int, noun: str) -> str:
    """`1 run`, `8 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def age(seconds: float | None) -> str:
    """`5 s ago`; a dash where it is unknown."""
    return MISSING if seconds is None else f"{max(0.0, seconds):.0f} s ago"


def duration(hours: float) -> str:
    """`hours` in the unit that reads best."""
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{60 * hours:.1f} min" if hours >= 1 / 60 else f"{3600 * hours:.0f} s"


def _cells(sweep: Sweep, merged: Mapping[str, Any]) -> list[str]:
    names = (run.cell for run in sweep.runs if run.in_table or run.cell in merged)
    return list(dict.fromkeys(names))


def _rows_by_cell(sweep: Sweep, cells: Sequence[str]) -> dict[str, list[Run]]:
    rows: dict[str, list[Run]] = {cell: [] for cell in cells}
    for run in sweep.runs:
        if run.cell in rows:
            rows[run.cell].append(run)
    return rows


def _columns(sweep: Sweep, rows: Mapping[str, Sequence[Run]]) -> list[str]:
    # Only the columns of the rows that are shown: a filtered table has no empty ones.
    present = {name for runs in rows.values() for name in expected_values(sweep, runs)}
    return [str(value) for value in sweep.axis(sweep.average_over).values if str(value) in present]


def format_of(sweep: Sweep) -> Format:
    """How the sweep's metric is shown."""
    return Format(replace(sweep.manifest.metric(sweep.metric), goal=sweep.goal))


def _value_texts(
    sweep: Sweep, runs: Sequence[Run], columns: Sequence[str], text: Callable[[Run], str]
) -> list[str]:
    by_name = {str(run.axes[sweep.average_over]): run for run in runs}
    return [text(by_name[name]) if name in by_name else "" for name in columns]


def _summary(sweep: Sweep, runs: Sequence[Run], view: Mapping[str, Any], form: Format) -> list[str]:
    needed = len(expected_values(sweep, runs))
    present = view.get("n", 0)
    # A mean over a part of the runs is never shown as the mean.
    if not view.get("complete"):
        word = UNUSABLE_KEY if UNUSABLE_KEY in view else "incomplete"
        return [word if present else MISSING, MISSING, f"{present}/{needed}"]
    std = view["std"][sweep.metric]
    mean_text = form.value(view["mean"][sweep.metric])
    mean_text = with_part(mean_text, part_of_mean(view, sweep.metric))
    return [mean_text, MISSING if std is None else form.value(std), f"{present}/{needed}"]


def _published(
    sweep: Sweep, view: Mapping[str, Any], published: Mapping[str, Any], form: Format
) -> list[str]:
    value = published.get("mean")
    if value is None:
        return [MISSING, MISSING]
    # A mean over a part, or over other runs, is no mean to compare with that of a paper.
    if (
        not view.get("complete")
        or part_of_mean(view, sweep.metric)
        or not is_over_same_values(view[COUNTED_KEY], published)
    ):
        return [form.value(value), MISSING]
    return [form.value(value), form.difference(view["mean"][sweep.metric] - value)]
