"""The grid, pure: a study becomes runs, a filter becomes a selection of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from merge.errors import SelectionError, StudyError
from merge.sweep import Axis, Resources, Run, Value, config_hash
from orchestrator.scalars import ConfigValue, is_named_by, text_of
from orchestrator.study import Condition, Study
from orchestrator.suggest import did_you_mean, listed
from orchestrator.templates import TemplateError, render


def expand(study: Study) -> tuple[Run, ...]:
    """Every run of `study`, those of `also` values too, the first axis varying slowest.

    StudyError where a template asks for a value that a run does not have.
    """
    tables = {axis.name: {text_of(value) for value in axis.values} for axis in study.axes}
    return tuple(_run(study, axes, tables) for axes in _points(study))


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
            f"no run is left: the study has no run with {filters or 'the values of its table'} "
            f"(its `exclude` takes them out)"
        )
    return selected


def choose(runs: Sequence[Run], run_ids: Sequence[str] | None) -> tuple[Run, ...]:
    """The runs of these ids, in the order of the ids; None names those of the table.

    SelectionError tells every id that there is not.
    """
    if run_ids is None:
        return tuple(run for run in runs if run.in_table)
    by_id = {run.run_id: run for run in runs}
    unknown = [name for name in run_ids if name not in by_id]
    if unknown:
        lines = [f"the plan has no run {name!r}{did_you_mean(name, by_id)}" for name in unknown]
        raise SelectionError("\n".join(lines))
    return tuple(by_id[name] for name in dict.fromkeys(run_ids))


def _points(study: Study) -> Iterator[dict[str, Value]]:
    names = [axis.name for axis in study.axes]
    for values in product(*(axis.choices for axis in study.axes)):
        axes = dict(zip(names, values, strict=True))
        if not any(_holds(excluded, axes) for excluded in study.exclude):
            yield axes


def _run(study: Study, axes: dict[str, Value], tables: Mapping[str, set[str]]) -> Run:
    config, resources = _configure(study, axes)
    try:
        cell = render(study.cell, config)
        path = render(study.run_path, {**config, "cell": cell})
    except TemplateError as error:
        point = ", ".join(f"{name}={text_of(value)}" for name, value in axes.items())
        raise StudyError(str(study.source), (f"run {point}: {error}",)) from error
    return Run(
        run_id=path.replace("/", "-"),
        path=path,
        cell=cell,
        axes=axes,
        config=config,
        config_hash=config_hash(
            {key: value for key, value in config.items() if key not in study.free_keys},
            experiment=study.experiment,
            command=study.command,
        ),
        experiment=study.experiment,
        command=study.command,
        resources=resources,
        in_table=all(text_of(value) in tables[name] for name, value in axes.items()),
    )


def _configure(study: Study, axes: Mapping[str, Value]) -> tuple[dict[str, ConfigValue], Resources]:
    strongest: dict[str, ConfigValue] = {**study.debug, **study.settings, **axes}
    config: dict[str, ConfigValue] = {**study.defaults, **study.fixed, **strongest}
    resources = study.resources
    for override in study.overrides:
        if _holds(override.when, config):
            config.update(override.set)
            config.update(strongest)
            if override.resources:
                resources = _changed(resources, override.resources)
    return config, resources


def _changed(resources: Resources, changes: Mapping[str, Any]) -> Resources:
    """`resources` with `changes`; of SLURM's requests only those that are named change."""
    slurm = {**resources.slurm, **changes.get("slurm", {})}
    return replace(resources, **{**changes, "slurm": slurm})


def _holds(condition: Condition, values: Mapping[str, ConfigValue]) -> bool:
    return all(key in values and text_of(values[key]) in texts for key, texts in condition.items())


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
