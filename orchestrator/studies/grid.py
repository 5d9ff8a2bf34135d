"""A study expanded to its runs. Pure: the same study gives the same runs in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from merge.errors import StudyError
from merge.records.config_hash import config_hash, free_keys_of
from merge.records.sweep import Resources, Run, Value
from orchestrator.config.templates import TemplateError, render
from orchestrator.config.values import ConfigValue, plain_text, text_of
from orchestrator.studies.study import Condition, Study


def expand(study: Study) -> tuple[Run, ...]:
    """Every run of `study`, those of `also` values too, the first axis varying slowest.

    StudyError where a template asks for a value that a run does not have.
    """
    tables = {axis.name: {text_of(value) for value in axis.values} for axis in study.axes}
    return tuple(_run(study, axes, tables) for axes in _points(study))


def _points(study: Study) -> Iterator[dict[str, Value]]:
    names = [axis.name for axis in study.axes]
    for values in product(*(axis.choices for axis in study.axes)):
        axes = dict(zip(names, values, strict=True))
        # `exclude` sees axes only: a point is left out before it has a configuration.
        if not any(_holds(excluded, axes) for excluded in study.exclude):
            yield axes


def _run(study: Study, axes: dict[str, Value], tables: Mapping[str, set[str]]) -> Run:
    config, resources = _configure(study, axes)
    free_keys = free_keys_of(config, study.free_keys, study.manifest)
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
            {key: value for key, value in config.items() if key not in free_keys},
            experiment=study.experiment,
            command=study.command,
        ),
        experiment=study.experiment,
        command=study.command,
        resources=resources,
        in_table=all(text_of(value) in tables[name] for name, value in axes.items()),
    )


def _configure(study: Study, axes: Mapping[str, Value]) -> tuple[dict[str, ConfigValue], Resources]:
    # In before the overrides too: a condition sees the values that the run will have.
    strongest: dict[str, ConfigValue] = {**study.debug, **study.settings, **axes}
    config: dict[str, ConfigValue] = {**study.defaults, **study.fixed, **strongest}
    resources = study.resources
    for override in study.overrides:
        if _holds(override.when, config):
            config.update(override.set)
            # Again after each override, which must not win over --debug, --set or an axis.
            config.update(strongest)
            if override.resources:
                resources = _changed(resources, override.resources)
    return config, resources


def _changed(resources: Resources, changes: Mapping[str, Any]) -> Resources:
    """`resources` with `changes`; of SLURM's requests only those that are named change."""
    slurm = {**resources.slurm, **changes.get("slurm", {})}
    return replace(resources, **{**changes, "slurm": slurm})


def _holds(condition: Condition, values: Mapping[str, ConfigValue]) -> bool:
    return all(
        key in values and plain_text(values[key]) in texts for key, texts in condition.items()
    )
