"""Whether a plan that was read can be used: it may be damaged, or changed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from merge.records.metrics import Goal
from merge.storage.json_files import is_finite_number

if TYPE_CHECKING:
    from merge.records.sweep import Sweep

_NO_PARTS = frozenset({"", ".", ".."})


def check_plan(sweep: Sweep) -> None:
    """ValueError, TypeError... unless runs and published numbers of `sweep` can be used."""
    _check_runs(sweep)
    _check_published(sweep.published)


def _check_runs(sweep: Sweep) -> None:
    """ValueError unless every run has its own place in the grid, and below the output folder."""
    if not all(isinstance(text, str) for text in (sweep.study, sweep.title, sweep.metric)):
        raise ValueError("study, title or metric is not text")
    if sweep.goal not in get_args(Goal):
        raise ValueError(f"the goal is {sweep.goal!r}, not max or min")
    names = {axis.name for axis in sweep.axes}
    choices = {axis.name: frozenset(axis.choices) for axis in sweep.axes}
    for run in sweep.runs:
        words = (run.run_id, run.path, run.cell, run.config_hash)
        if not all(map(_is_text, words)):
            raise ValueError(f"run {run.run_id!r} lacks an id, a path, a cell or a hash")
        if run.axes.keys() != names or not all(map(_is_value, run.axes.values())):
            raise ValueError(f"run {run.run_id!r} lacks a value for an axis")
        # A value of no axis belongs to no mean: the others would pass for the whole cell.
        if not all(value in choices[name] for name, value in run.axes.items()):
            raise ValueError(f"run {run.run_id!r} has a value that no axis has")
        # A plan may come from a bucket or from another user: `..` or an absolute path (whose first
        # part is empty) would write outside of the output folder.
        if not _NO_PARTS.isdisjoint(run.path.split("/")):
            raise ValueError(f"the path {run.path!r} leaves the output folder")
    ids = {run.run_id for run in sweep.runs}
    paths = {run.path for run in sweep.runs}
    # Two runs at one point of a cell would overwrite each other in the table.
    points = {(run.cell, run.axes[sweep.average_over]) for run in sweep.runs}
    if not ids or not len(ids) == len(paths) == len(points) == len(sweep.runs):
        raise ValueError(
            "there are no runs, or two runs share an id, a path or a point of the grid"
        )


# Named functions in `map` instead of generators, which take a third longer for so few values.
def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_value(value: object) -> bool:
    return isinstance(value, (str, int, float))


def _check_published(published: Mapping[str, Any]) -> None:
    """ValueError, TypeError... unless a table can show these numbers."""
    # `others` is the key on disk of the cells of further methods.
    tables = [published["cells"], *published.get("others", {}).values()] if published else []
    numbers = [number for table in tables for row in table.values() for number in row.values()]
    if not all(is_finite_number(n) for n in (*numbers, published.get("tolerance", 0.0))):
        raise ValueError("a published number or its tolerance is not a number")
    if not isinstance(published.get("notes", {}), dict):
        raise ValueError("the notes on published numbers are not a mapping")
