"""The report's figures as SVG: a heat map of all runs and learning curves, by matplotlib.

Backgrounds are clear and all ink is `currentColor`, so that a page shows them dark or light.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from merge.storage.json_files import is_finite_number
from replicate.report.content import Cell, EventCurve, Report
from replicate.report.escaping import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_INK = "#010203"
"""Replaced by `currentColor` in the finished SVG: matplotlib accepts no such colour."""

_LINES = ("#3b82c4", "#d9772b", "#3f9e5a", "#b0539f", "#8a7d2e", "#6b6fd4", "#c0504d", "#4b9c9c")
"""Readable on white and on near-black."""

_CURVES_PER_ROW = 4

# matplotlib lays out about 12 cells a second as curves and 100 as a heat map, and holds all of them
# in memory: 2,500 cells took 45 s and 1.9 GB.
MOST_CURVES = 32
_MOST_MARKED = 60
"""Points of a curve that are drawn as dots."""
_MOST_HEAT_ROWS = 100
LARGEST_DRAWN = 1e100
"""Larger numbers are not drawn: the span of an axis would overflow, and hide all others."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the page, with notes on what it leaves out."""

    svg: str
    notes: tuple[str, ...] = ()


def heat_map(report: Report) -> Picture | None:
    """Ours by cell and value of the averaged axis, and the difference to what is published.

    None where nothing is measured yet.
    """
    if not any(cell.values for cell in report.cells):
        return None
    cells = report.cells[:_MOST_HEAT_ROWS]
    differences = [_differences(cell) for cell in cells]
    has_published = any(differences)
    width, height = 2.0 + 0.8 * len(report.columns), 0.9 + 0.34 * len(cells)
    figure, panes = _figure(1, 1 + has_published, (width * (1 + has_published), height))
    form = report.form
    # The better the brighter.
    colours = "viridis" if report.sweep.goal == "max" else "viridis_r"
    _matrix(panes[0], report, [_drawable(cell.values) for cell in cells], form.value, colours)
    panes[0].set_yticks(range(len(cells)), [_literal(cell.name) for cell in cells])
    title = f"ours, {report.sweep.metric}{form.unit}{form.direction}"
    panes[0].set_title(_literal(title), color=_INK)
    if has_published:
        # Symmetric around 0, so that white means equal; 1.0 where all differences are 0, or nothing
        # could be scaled.
        largest = max((abs(v) for row in differences for v in row.values()), default=0.0) or 1.0
        # Blue is better than published, red is worse.
        colours = "RdBu" if report.sweep.goal == "max" else "RdBu_r"
        _matrix(panes[1], report, differences, form.difference, colours, largest)
        panes[1].set_title("ours minus published", color=_INK)
        panes[1].set_yticks([])
    return Picture(_svg(figure, "heat"), _note(len(cells), len(report.cells)))


def learning_curves(report: Report) -> Picture | None:
    """The metric over epochs, a pane a cell, a line a value of the averaged axis.

    From the `history` that our trainers leave with a result, else from a trainer's events; None
    where there is neither.
    """
    curves = _curves(report)
    cells = [cell for cell in report.cells if cell.name in curves]
    if not cells:
        return None
    shown = cells[:MOST_CURVES]
    num_columns = min(_CURVES_PER_ROW, len(shown))
    # Division rounded up.
    num_rows = -(-len(shown) // num_columns)
    figure, panes = _figure(num_rows, num_columns, (3.1 * num_columns, 2.4 * num_rows))
    for pane, cell in zip(panes, shown, strict=False):
        _plot_curves(pane, report, cell, curves[cell.name])
    for pane in panes[len(shown) :]:
        pane.set_axis_off()
    panes[0].legend(fontsize=7, frameon=False, labelcolor=_INK)
    return Picture(_svg(figure, "curves"), _note(len(shown), len(cells)))


def _note(num_shown: int, num_cells: int) -> tuple[str, ...]:
    if num_shown == num_cells:
        return ()
    return (f"shown: the first {num_shown} of {num_cells} cells; the tables have all of them",)


def _drawable(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if abs(value) < LARGEST_DRAWN}


def _differences(cell: Cell) -> dict[str, float]:
    return {
        name: value - cell.published[name]
        for name, value in _drawable(cell.values).items()
        # A number over a part of the classes is not set against a published one.
        if name in cell.published and name not in cell.parts
    }


def _matrix(
    pane: Axes,
    report: Report,
    rows: Sequence[Mapping[str, float]],
    text: Callable[[float], str],
    colours: str,
    largest: float | None = None,
) -> None:
    import numpy as np

    grid = np.array(
        [[row.get(name, np.nan) for name in report.columns] for row in rows], dtype=float
    )
    image = pane.imshow(
        np.ma.masked_invalid(grid),
        cmap=colours,
        aspect="auto",
        vmin=None if largest is None else -largest,
        vmax=largest,
    )
    for y, row in enumerate(rows):
        for x, name in enumerate(report.columns):
            value = row.get(name)
            if value is None:
                pane.text(x, y, "–", ha="center", va="center", color=_INK, fontsize=8)
                continue
            red, green, blue, _ = image.to_rgba(np.asarray(value))
            # Perceived brightness (ITU-R BT.601): text must be readable on its own square.
            is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
            colour = "#000000" if is_light else "#ffffff"
            pane.text(x, y, text(value), ha="center", va="center", color=colour, fontsize=8)
    average_over = report.sweep.average_over
    columns = [_literal(f"{average_over} {name}") for name in report.columns]
    pane.set_xticks(range(len(columns)), columns)


def _curves(report: Report) -> dict[str, dict[str, EventCurve]]:
    """Cell -> value of the averaged axis -> the curve of that run."""
    curves: dict[str, dict[str, EventCurve]] = {}
    for run in report.sweep.runs:
        result = report.results.get(run.run_id)
        points = _points(result.details.get("history"), report.sweep.metric) if result else []
        curve = report.curves.get(run.run_id)
        if points:
            curve = EventCurve(name=report.sweep.metric, over="epoch", points=tuple(points))
        if curve is not None:
            name = str(run.axes[report.sweep.average_over])
            curves.setdefault(run.cell, {})[name] = curve
    return curves


def _points(history: object, metric: str) -> list[tuple[float, float]]:
    return [
        (entry["epoch"], entry[metric])
        for entry in (history if isinstance(history, list) else ())
        if isinstance(entry, dict)
        and is_finite_number(entry.get("epoch"))
        and is_finite_number(entry.get(metric))
        and max(abs(entry["epoch"]), abs(entry[metric])) < LARGEST_DRAWN
    ]


def _plot_curves(pane: Axes, report: Report, cell: Cell, curves: Mapping[str, EventCurve]) -> None:
    from matplotlib.ticker import MaxNLocator

    names = list(report.columns)
    for name, curve in curves.items():
        # A loss has no unit of the metric's.
        scale = report.form.scale if curve.name == report.sweep.metric else 1
        colour = _LINES[names.index(name) % len(_LINES)] if name in names else _LINES[-1]
        places, values = zip(*curve.points, strict=True)
        pane.plot(
            places,
            [scale * value for value in values],
            color=colour,
            label=_literal(f"{report.sweep.average_over} {name}"),
            marker="o" if len(places) <= _MOST_MARKED else "",
            markersize=3,
            linewidth=1.3,
        )
    drawn = next(iter(curves.values()))
    published = cell.published.get("mean")
    if published is not None and not cell.parts and drawn.name == report.sweep.metric:
        level = report.form.scale * published
        pane.axhline(level, color=_INK, linewidth=0.8, linestyle=":", label="published mean")
    pane.set_title(_literal(cell.name), fontsize=8, color=_INK)
    pane.set_xlabel(drawn.over, color=_INK)
    unit = report.form.unit if drawn.name == report.sweep.metric else ""
    pane.set_ylabel(_literal(f"{drawn.name}{unit}"), color=_INK)
    pane.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _literal(text: str) -> str:
    """`text` as it is: matplotlib would read what stands between two dollars as a formula."""
    return one_line(text).replace("$", r"\$")


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    # Figure without pyplot: no display, no state that outlives the call.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    figure.patch.set_alpha(0)
    panes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for pane in panes:
        pane.patch.set_alpha(0)
        pane.tick_params(colors=_INK, labelsize=7)
        for spine in pane.spines.values():
            spine.set_color(_INK)
    return figure, panes


def _svg(figure: Figure, salt: str) -> str:
    import matplotlib

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings), io.StringIO() as file:
        # Without a date the same results give the same bytes.
        figure.savefig(file, format="svg", metadata={"Date": None})
        text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Two figures on one page must not share the names of their parts.
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{salt}-", text)
