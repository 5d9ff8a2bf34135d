"""Selects runs of a plan: filters by axis and by run id. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from merge.errors import SelectionError
from merge.records.sweep import Axis, Run
from merge.wording import did_you_mean, hint, listed
from orchestrator.config.values import is_named_by, text_of


def select(
    runs: Sequence[Run], axes: Sequence[Axis], where: Mapping[str, Sequence[str]]
) -> tuple[Run, ...]:
    """The runs that `where` (axis -> texts of values) names, in their order.

    An axis without a filter stands for the values of its table. SelectionError for an axis or a
    value that is not there, and where nothing is left.
    """
    allowed = _allowed(axes, where)
    selected = tuple(
        run
        for run in runs
        if all(text_of(run.axes[name]) in texts for name, texts in allowed.items())
    )
    if not selected:
        filters = " ".join(f"{name}={','.join(texts)}" for name, texts in where.items())
        raise SelectionError(
            f"no run is selected: the study's `exclude` leaves out every run with "
            f"{filters or 'the values of its table'}"
        )
    return selected


def choose(runs: Sequence[Run], run_ids: Sequence[str] | None) -> tuple[Run, ...]:
    """The runs of these ids, in the order of the ids; None names those of the table.

    An evaluation whose training has no result yet is not among the latter.

    SelectionError lists the ids that do not exist.
    """
    if run_ids is None:
        return tuple(run for run in runs if run.in_table and run.is_ready)
    by_id = {run.run_id: run for run in runs}
    unknown = [name for name in run_ids if name not in by_id]
    if unknown:
        lines = [f"the plan has no run {name!r}{hint(name, by_id)}" for name in unknown]
        raise SelectionError("\n".join(lines))
    return tuple(by_id[name] for name in dict.fromkeys(run_ids))


def _allowed(axes: Sequence[Axis], where: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    names = [axis.name for axis in axes]
    problems = [
        f"unknown axis {name!r}{did_you_mean(name, names)}; axes: {', '.join(names)}"
        for name in where
        if name not in names
    ]
    allowed = {}
    for axis in axes:
        texts = where.get(axis.name)
        if texts is None:
            allowed[axis.name] = {text_of(value) for value in axis.values}
        else:
            allowed[axis.name], unknown = _named(axis, texts)
            problems.extend(unknown)
    if problems:
        raise SelectionError("\n".join(problems))
    return allowed


def _named(axis: Axis, texts: Sequence[str]) -> tuple[set[str], list[str]]:
    choices = [text_of(value) for value in axis.choices]
    if not texts:
        return set(), [f"the filter on {axis.name} names no value; choices: {listed(choices)}"]
    named: set[str] = set()
    problems = []
    for text in texts:
        found = {text_of(value) for value in axis.choices if is_named_by(value, text)}
        named |= found
        if not found:
            near = did_you_mean(text, choices)
            problems.append(f"{axis.name} has no value {text!r}{near}; choices: {listed(choices)}")
    return named, problems
