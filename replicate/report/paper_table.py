"""The paper's own table, with our rows in it: blocks of methods, columns of the last axis. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merge.records.sweep import Run, Value
from merge.results.parts import with_part
from replicate.report.content import Cell, Report

MEAN = "mean"

_MOST_GROUPS = 3
"""Column groups that fit on a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method's numbers in one block, `None` where it has none."""

    method: str
    is_ours: bool
    values: tuple[float | None, ...]
    """A value for each column of each group, in order."""
    parts: tuple[str, ...] = ()
    """For each value `3/5 classes` where it is over a part, else empty; none at all: all whole."""

    def part(self, column: int) -> str:
        return self.parts[column] if self.parts else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The methods that are compared with each other, such as those with one backbone."""

    label: str
    rows: tuple[Row, ...]

    def best(self, column: int, *, goal: str) -> float | None:
        """The best value of a column, over published methods and ours; None for a single row."""
        values = [
            value
            for row in self.rows
            # A number over a part is compared with none over the whole.
            if (value := row.values[column]) is not None and not row.part(column)
        ]
        if not values or len(self.rows) == 1:
            return None
        return max(values) if goal == "max" else min(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperTable:
    """Blocks of rows over groups of columns."""

    groups: tuple[str, ...]
    """Labels such as `shot 1`; one empty label where there are no groups."""
    columns: tuple[str, ...]
    """Within each group: the values of the averaged axis, and the mean."""
    blocks: tuple[Block, ...]


def paper_table(report: Report) -> PaperTable:
    """The table of `report`, its last axis as column groups where that has few values."""
    runs = _run_of_each_cell(report)
    group_axis = _group_axis(report, runs.values())
    groups: list[Value | None] = [None]
    if group_axis:
        groups = list(_values(runs.values(), group_axis))
    blocks: dict[tuple[Value, ...], dict[Value | None, str]] = {}
    labels: dict[tuple[Value, ...], str] = {}
    for cell, run in runs.items():
        rest = {k: v for k, v in run.axes.items() if k not in (group_axis, _averaged(report))}
        key = tuple(rest.values())
        labels[key] = ", ".join(f"{axis} {value}" for axis, value in rest.items())
        blocks.setdefault(key, {})[run.axes[group_axis] if group_axis else None] = cell
    columns = (*report.columns, MEAN)
    ours = {cell.name: cell for cell in report.cells}
    return PaperTable(
        groups=tuple(f"{group_axis} {value}" if group_axis else "" for value in groups),
        columns=columns,
        blocks=tuple(
            Block(
                label=labels[key], rows=_rows(report, ours, [cells.get(g) for g in groups], columns)
            )
            for key, cells in blocks.items()
        ),
    )


def column_names(report: Report, table: PaperTable) -> list[str]:
    """The header above the values of a row: `seed 0`, ..., `mean`, once for each group."""
    names = [c if c == MEAN else f"{_averaged(report)} {c}" for c in table.columns]
    return names * len(table.groups)


def grouped_names(report: Report, table: PaperTable) -> list[str]:
    """`column_names`, each behind the label of its group: for a form without a second header."""
    groups = [group for group in table.groups for _ in table.columns]
    names = column_names(report, table)
    return [f"{group} {name}".strip() for group, name in zip(groups, names, strict=True)]


def shown_values(report: Report, block: Block, row: Row) -> list[tuple[str, bool]]:
    """Each value of `row` as text, empty where it has none, and whether it is its column's best."""
    return [
        _shown(report, value, row.part(column), block.best(column, goal=report.sweep.goal))
        for column, value in enumerate(row.values)
    ]


def _shown(report: Report, value: float | None, part: str, best: float | None) -> tuple[str, bool]:
    if value is None:
        return "", False
    text = report.form.value(value)
    if part:
        return with_part(text, part), False
    # What is printed equal to the best is best: a reader sees no more digits.
    return text, best is not None and text == report.form.value(best)


def _rows(
    report: Report,
    ours: Mapping[str, Cell],
    cells: Sequence[str | None],
    columns: Sequence[str],
) -> tuple[Row, ...]:
    published = report.sweep.published
    tables: dict[str, Mapping[str, Any]] = dict(published.get("others", {}))
    if published:
        tables[f"{published.get('method', 'published')} (paper)"] = published["cells"]
    rows = [
        Row(method=method, is_ours=False, values=_published_values(table, cells, columns))
        for method, table in tables.items()
    ]
    rows = [row for row in rows if any(value is not None for value in row.values)]
    values, parts = _our_values(ours, cells, columns), _our_parts(ours, cells, columns)
    return (*rows, Row(method="ours", is_ours=True, values=values, parts=parts))


def _published_values(
    table: Mapping[str, Any], cells: Sequence[str | None], columns: Sequence[str]
) -> tuple[float | None, ...]:
    return tuple(table.get(cell or "", {}).get(column) for cell in cells for column in columns)


def _our_values(
    ours: Mapping[str, Cell], cells: Sequence[str | None], columns: Sequence[str]
) -> tuple[float | None, ...]:
    values: list[float | None] = []
    for name in cells:
        cell = ours.get(name or "")
        for column in columns:
            if cell is None:
                values.append(None)
            else:
                values.append(cell.mean if column == MEAN else cell.values.get(column))
    return tuple(values)


def _our_parts(
    ours: Mapping[str, Cell], cells: Sequence[str | None], columns: Sequence[str]
) -> tuple[str, ...]:
    found = (ours.get(name or "") for name in cells)
    return tuple(cell.parts.get(c, "") if cell else "" for cell in found for c in columns)


def _run_of_each_cell(report: Report) -> dict[str, Run]:
    names = {cell.name for cell in report.cells}
    runs: dict[str, Run] = {}
    for run in report.sweep.runs:
        if run.cell in names:
            runs.setdefault(run.cell, run)
    return runs


def _group_axis(report: Report, runs: Iterable[Run]) -> str | None:
    runs = list(runs)
    axes = [a.name for a in report.sweep.axes if a.name != _averaged(report)]
    # An axis with one value would be a heading that says nothing.
    varied = [name for name in axes if len(_values(runs, name)) > 1]
    if varied and len(_values(runs, varied[-1])) <= _MOST_GROUPS:
        return varied[-1]
    return None


def _values(runs: Iterable[Run], axis: str) -> list[Value]:
    return list(dict.fromkeys(run.axes[axis] for run in runs))


def _averaged(report: Report) -> str:
    return report.sweep.average_over
