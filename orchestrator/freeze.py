"""The plan of an output folder, frozen: written once, then only ever compared.

Pure but for `freeze`. Resources, retries, title, published numbers and the code's version may
change under a plan; what decides numbers or where they lie may not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from merge.errors import ConfigChangedError
from merge.files import Json, canonical_json, write_json_exclusive
from merge.paths import SweepPaths
from merge.sweep import Run, Sweep, read_sweep
from orchestrator.grid import expand
from orchestrator.scalars import text_of
from orchestrator.study import Study
from orchestrator.suggest import listed

_MOST_LINES = 16
_MOST_NAMED = 3
_ABSENT = object()


def make_sweep(study: Study, code: Mapping[str, Any]) -> Sweep:
    """The plan of `study`: all its runs, those of `also` values too, made by `code`."""
    return Sweep(
        study=study.name,
        title=study.title,
        axes=study.axes,
        average_over=study.average_over,
        metric=study.metric,
        goal=study.goal,
        settings={
            key: value if isinstance(value, str | int | float | bool) else text_of(value)
            for key, value in study.settings.items()
        },
        runs=expand(study),
        code=code,
        published=study.published,
        retries=study.retries,
        free_keys=study.free_keys,
    )


def freeze(output: Path, sweep: Sweep) -> Sweep:
    """Write `sweep` as the plan of `output`, or return the equal plan that is already there.

    ConfigChangedError, with the differences, where `output` holds another plan; RecordError where
    its plan cannot be read; StorageError where it cannot be written.
    """
    path = SweepPaths(output).sweep
    try:
        existing = read_sweep(path)
    except FileNotFoundError:
        if write_json_exclusive(path, sweep.to_json()):
            return sweep
        existing = read_sweep(path)
    differences = plan_differences(existing, sweep)
    if differences:
        raise ConfigChangedError(_refusal(path, existing, differences))
    return existing


def plan_differences(old: Sweep, new: Sweep) -> tuple[str, ...]:
    """What differs between two plans, a line each; empty where their numbers may be mixed."""
    old_runs = {run.run_id: run for run in old.runs}
    new_runs = {run.run_id: run for run in new.runs}
    return (
        *_definition_differences(old, new),
        *_run_list("runs added", [name for name in new_runs if name not in old_runs]),
        *_run_list("runs gone", [name for name in old_runs if name not in new_runs]),
        *_run_differences(
            [(run, new_runs[name]) for name, run in old_runs.items() if name in new_runs],
            new.free_keys,
        ),
    )


def _definition_differences(old: Sweep, new: Sweep) -> Iterator[str]:
    for name in ("study", "average_over", "metric", "goal"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name}: {before} -> {after}"
    before_axes, after_axes = _axes_as_json(old), _axes_as_json(new)
    for name in {**before_axes, **after_axes}:
        before, after = before_axes.get(name), after_axes.get(name)
        if before != after:
            yield f"axes.{name}: {before or 'absent'} -> {after or 'absent'}"
    if before_axes == after_axes and list(before_axes) != list(after_axes):
        yield f"order of axes: {listed(before_axes)} -> {listed(after_axes)}"


def _axes_as_json(sweep: Sweep) -> dict[str, str]:
    texts = {}
    for axis in sweep.axes:
        texts[axis.name] = listed(_shown(value) for value in axis.values)
        if axis.also:
            texts[axis.name] += f" (also: {listed(_shown(value) for value in axis.also)})"
    return texts


def _run_list(what: str, names: list[str]) -> Iterator[str]:
    if names:
        more = ", ..." if len(names) > _MOST_NAMED else ""
        yield f"{what}: {len(names)} ({', '.join(names[:_MOST_NAMED])}{more})"


def _run_differences(pairs: list[tuple[Run, Run]], free_keys: Collection[str]) -> Iterator[str]:
    counts: dict[str, int] = {}
    for old, new in pairs:
        for change in _changes(old, new, free_keys):
            counts[change] = counts.get(change, 0) + 1
    for change, count in sorted(counts.items()):
        yield f"{change} (in {count} {'run' if count == 1 else 'runs'})"


def _changes(old: Run, new: Run, free_keys: Collection[str]) -> Iterator[str]:
    for name in ("path", "cell", "experiment", "command", "in_table"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name}: {before} -> {after}"
    if old.config_hash == new.config_hash:
        return
    for key in {**old.config, **new.config}:
        before, after = _at(old.config, key), _at(new.config, key)
        if before != after and key not in free_keys:
            yield f"{key}: {before} -> {after}"


def _at(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key, _ABSENT)
    return "absent" if value is _ABSENT else _shown(value)


def _shown(value: Json) -> str:
    return canonical_json(value).decode()


def _refusal(path: Path, existing: Sweep, differences: tuple[str, ...]) -> str:
    hidden = len(differences) - _MOST_LINES
    more = [f"... and {hidden} more differences"] if hidden > 0 else []
    return "\n".join(
        [
            f"{path} holds another plan of study {existing.study!r}; planned -> asked for now:",
            *(f"  {line}" for line in (*differences[:_MOST_LINES], *more)),
            "Numbers of both would be mixed in one table: give another --output-dir, or undo the "
            "change.",
        ]
    )
