"""Runs that two plans have in common, though their axes or the names of their folders differ.

An axis that a study got later had one value in each run before, which stands in the run's
configuration: configurations, and with them their hashes, do not tell an axis from a fixed value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from merge.records.sweep import Axis, Run, Sweep, Value

Point = tuple[tuple[bool, Value], ...]
"""A run's values of some axes, each as `key_of` has it."""


def point_of(run: Run, names: Iterable[str]) -> Point:
    """The values of `run` on the axes `names`."""
    return tuple(key_of(run.axes[name]) for name in names)


def key_of(value: Value) -> tuple[bool, Value]:
    """Equal for one value of an axis: 1 and 1.0 are one point of a grid, 1 and true are two."""
    return isinstance(value, bool), value


def with_axes_of(sweep: Sweep, other: Sweep) -> Sweep:
    """`sweep` with the axes that only `other` has, each with the values that its runs have there.

    `sweep` itself where a run of it has no value for one of them.
    """
    own = {axis.name: axis for axis in sweep.axes}
    added = [axis.name for axis in other.axes if axis.name not in own]
    if not added or not all(_has(run, added) for run in sweep.runs):
        return sweep
    for name in added:
        found = {key_of(run.config[name]): run.config[name] for run in sweep.runs}
        own[name] = Axis(name=name, values=tuple(found.values()))
    # In the order of the plan that has them all, where there is one.
    names = list(dict.fromkeys([*(axis.name for axis in other.axes), *own]))
    if set(own) != {axis.name for axis in other.axes}:
        names = [*own]
    runs = tuple(
        replace(run, axes={n: run.axes[n] if n in run.axes else run.config[n] for n in names})
        for run in sweep.runs
    )
    return replace(sweep, axes=tuple(own[name] for name in names), runs=runs)


def named_as_planned(asked: Sweep, planned: Sweep) -> Sweep:
    """`asked` with the ids, folders and cells that `planned` has for runs of one configuration.

    A study may have got an axis, or other templates, since; what is on disk stays where it is. A
    run that is new in a planned cell gets that cell.
    """
    ids = {run.run_id for run in planned.runs}
    if len(asked.axes) == len(planned.axes) and all(run.run_id in ids for run in asked.runs):
        return asked
    lifted, known = with_axes_of(asked, planned), with_axes_of(planned, asked)
    names = sorted(axis.name for axis in lifted.axes)
    if names != sorted(axis.name for axis in known.axes):
        return asked
    rest = [name for name in names if name != planned.average_over]
    by_point = {point_of(run, names): run for run in known.runs}
    cells = {point_of(run, rest): run.cell for run in known.runs}

    def named(run: Run) -> Run:
        same = by_point.get(point_of(run, names))
        if same and same.config_hash == run.config_hash:
            return replace(run, run_id=same.run_id, path=same.path, cell=same.cell)
        return replace(run, cell=cells.get(point_of(run, rest), run.cell))

    return replace(lifted, runs=tuple(named(run) for run in lifted.runs))


def _has(run: Run, names: Iterable[str]) -> bool:
    return all(isinstance(run.config.get(name), str | int | float) for name in names)
