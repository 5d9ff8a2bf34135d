"""What the cells of a report differ in, and their further metrics, as tables of text. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from merge.results.parts import part_of_mean, with_part
from replicate.report.content import Report
from replicate.views.table import Format

MISSING = "–"

_MOST_COLUMNS = 12
"""Settings that a page shows side by side; report.csv and sweep.json have all."""


def differing_settings(report: Report) -> list[list[str]]:
    """Header and a row a cell: the settings whose values are not the same in all cells.

    The averaged axis is none of them. Empty where the cells differ in nothing, or there is one.
    """
    values = _values_by_cell(report)
    names = [name for name in _names(report) if _differs(name, values)]
    if not names or len(values) < 2:
        return []
    shown = names[:_MOST_COLUMNS]
    more = [f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else []
    rows = [
        [cell, *(found.get(name, MISSING) for name in shown), *("" for _ in more)]
        for cell, found in values.items()
    ]
    return [["cell", *shown, *more], *rows]


def further_metrics(report: Report) -> list[list[str]]:
    """Header and a row a cell: mean and std of every metric but the table's own."""
    views = {cell.name: report.document["results"].get(cell.name, {}) for cell in report.cells}
    names = sorted({name for view in views.values() for name in view.get("mean") or {}})
    forms = {
        name: Format(report.sweep.manifest.metric(name))
        for name in names
        if name != report.sweep.metric
    }
    if not forms:
        return []
    header = ["cell", *(f"{name}{form.unit}{form.direction}" for name, form in forms.items())]
    return [header, *([cell, *_spreads(view, forms)] for cell, view in views.items())]


def _spreads(view: Mapping[str, Any], forms: Mapping[str, Format]) -> list[str]:
    return [_spread(view, name, form) for name, form in forms.items()]


def _spread(view: Mapping[str, Any], name: str, form: Format) -> str:
    mean, std = (view.get(key) or {} for key in ("mean", "std"))
    if name not in mean:
        return MISSING
    # A cell of one run has a mean and no deviation.
    spread = "" if std.get(name) is None else f" ± {form.value(std[name])}"
    return with_part(f"{form.value(mean[name])}{spread}", part_of_mean(view, name))


def _names(report: Report) -> list[str]:
    """The axes in the study's order, then every other key of a configuration."""
    axes = [axis.name for axis in report.sweep.axes]
    keys = {key for run in report.sweep.runs for key in run.config}
    names = [*axes, *sorted(keys - set(axes))]
    return [name for name in names if name != report.sweep.average_over]


def _values_by_cell(report: Report) -> dict[str, dict[str, str]]:
    """Cell -> setting -> its value, or its values where they differ within the cell."""
    found: dict[str, dict[str, dict[str, None]]] = {cell.name: {} for cell in report.cells}
    for run in report.sweep.runs:
        if run.cell in found:
            for name, value in {**run.config, **run.axes}.items():
                found[run.cell].setdefault(name, {})[_text(value)] = None
    return {
        cell: {name: ", ".join(texts) for name, texts in settings.items()}
        for cell, settings in found.items()
    }


def _differs(name: str, values: Mapping[str, Mapping[str, str]]) -> bool:
    return len({settings.get(name) for settings in values.values()}) > 1


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def without_empty_columns(rows: Iterator[list[str]], header: list[str]) -> list[list[str]]:
    """`header` and `rows` without the columns that hold a value in no row."""
    table = [header, *rows]
    kept = [
        column
        for column in range(len(header))
        if len(table) == 1 or any(row[column] not in ("", MISSING) for row in table[1:])
    ]
    return [[row[column] for column in kept] for row in table]
