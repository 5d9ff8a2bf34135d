"""Plans of sweeps: what differs between two, and the short form that a merged view carries.

Resources, title, published numbers and the code's version may differ between plans of one sweep;
what decides numbers or where they lie may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from merge.records.metrics import range_text
from merge.records.sweep import Run, Sweep, run_to_json, sweep_from_json
from merge.storage.json_files import Json, canonical_json

_MOST_LINES = 16
_MOST_NAMED = 3
_MOST_LISTED = 40
_ABSENT = object()
_MAYBE_SHARED = frozenset({"experiment", "command", "resources", "in_table"})
"""What the runs of most sweeps have in common."""


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
            new,
        ),
    )


def _definition_differences(old: Sweep, new: Sweep) -> Iterator[str]:
    for name in ("study", "average_over", "metric", "goal"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name}: {before} -> {after}"
    metrics = [sweep.manifest.metric(sweep.metric) for sweep in (old, new)]
    if old.metric == new.metric:
        # The same number means another value: 0.5 is 50 percent, or half a pixel.
        if metrics[0].unit != metrics[1].unit:
            yield f"unit of {old.metric}: {metrics[0].unit} -> {metrics[1].unit}"
        # It decides which results count.
        elif metrics[0].limits != metrics[1].limits:
            before, after = (range_text(metric.limits) for metric in metrics)
            yield f"range of {old.metric}: {before} -> {after}"
    before_axes, after_axes = _axes_as_json(old), _axes_as_json(new)
    for name in {**before_axes, **after_axes}:
        before, after = before_axes.get(name), after_axes.get(name)
        if before != after:
            yield f"axes.{name}: {before or 'absent'} -> {after or 'absent'}"
    # The order of the axes is the order of the runs, and of the default folder names.
    if before_axes == after_axes and list(before_axes) != list(after_axes):
        yield f"order of axes: {_listed(before_axes)} -> {_listed(after_axes)}"


def _axes_as_json(sweep: Sweep) -> dict[str, str]:
    texts = {}
    for axis in sweep.axes:
        texts[axis.name] = _listed(_shown(value) for value in axis.values)
        if axis.also:
            texts[axis.name] += f" (also: {_listed(_shown(value) for value in axis.also)})"
    return texts


def _run_list(what: str, names: list[str]) -> Iterator[str]:
    if names:
        more = ", ..." if len(names) > _MOST_NAMED else ""
        yield f"{what}: {len(names)} ({', '.join(names[:_MOST_NAMED])}{more})"


def _run_differences(pairs: list[tuple[Run, Run]], sweep: Sweep) -> Iterator[str]:
    counts: dict[str, int] = {}
    for old, new in pairs:
        for change in _changes(old, new, sweep):
            counts[change] = counts.get(change, 0) + 1
    # One line a change, not one a run: a changed default is the same in all 10,000 runs.
    for change, count in sorted(counts.items()):
        yield f"{change} (in {count} {'run' if count == 1 else 'runs'})"


def _changes(old: Run, new: Run, sweep: Sweep) -> Iterator[str]:
    for name in ("path", "cell", "experiment", "command", "in_table"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield f"{name}: {before} -> {after}"
    # Equal hashes: nothing that decides numbers differs, and the rest may.
    if old.config_hash == new.config_hash:
        return
    free_keys = {*sweep.free_keys_of(old.config)} & {*sweep.free_keys_of(new.config)}
    for key in {**old.config, **new.config}:
        before, after = _at(old.config, key), _at(new.config, key)
        if before != after and key not in free_keys:
            yield f"{key}: {before} -> {after}"


def _at(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key, _ABSENT)
    return "absent" if value is _ABSENT else _shown(value)


def _shown(value: Json) -> str:
    return canonical_json(value).decode()


def shortened(lines: Sequence[str]) -> list[str]:
    """The first of very many lines, and how many more there are."""
    hidden = len(lines) - _MOST_LINES
    return [*lines[:_MOST_LINES], *([f"... and {hidden} more differences"] if hidden > 0 else [])]


def plan_to_json(sweep: Sweep) -> dict[str, Any]:
    """`sweep` with what its runs share written once; without the published numbers."""
    document = sweep.to_json(with_runs=False)
    del document["published"]
    shared = _shared(sweep.runs)
    return {**document, "shared": shared, "runs": [_own(run, shared) for run in sweep.runs]}


def plan_from_json(document: Mapping[str, Any], published: Mapping[str, Any]) -> Sweep:
    """The sweep that `plan_to_json` wrote. KeyError, TypeError... where `document` is none."""
    shared = document["shared"]
    runs = [
        {
            **shared,
            **run,
            "config": {**shared["config"], **run["axes"], **run["config"]},
        }
        for run in document["runs"]
    ]
    return sweep_from_json({**document, "published": published, "runs": runs})


def _shared(runs: Sequence[Run]) -> dict[str, Any]:
    first = run_to_json(runs[0])
    shared = {
        name: first[name]
        for name in sorted(_MAYBE_SHARED)
        if _are_equal([getattr(run, name) for run in runs])
    }
    configs = [run.config for run in runs]
    common = {key: value for key, value in configs[0].items() if _all_have(configs, key, value)}
    return {**shared, "config": common}


def _are_equal(column: list[Any]) -> bool:
    return column.count(column[0]) == len(column)


def _all_have(configs: Sequence[Mapping[str, Any]], key: str, value: object) -> bool:
    """Whether `key` has this value in all, as `_same` compares."""
    # By column: count and map compare in C, which takes a third of a call of `_same` for each.
    column = [config.get(key, _ABSENT) for config in configs]
    return _are_equal(column) and set(map(type, column)) == {type(value)}


def _own(run: Run, shared: Mapping[str, Any]) -> dict[str, Any]:
    """What `run` does not share; an axis stands in its configuration too, and is written once."""
    own: dict[str, Any] = {
        "run_id": run.run_id,
        "path": run.path,
        "cell": run.cell,
        "axes": dict(run.axes),
        "config_hash": run.config_hash,
        "config": {
            key: run.config[key]
            for key in run.config.keys() - shared["config"].keys()
            if not _same(run.axes.get(key, _ABSENT), run.config[key])
        },
    }
    if shared.keys() >= _MAYBE_SHARED:
        return own
    # Rare, and slow: a run's document copies its whole configuration.
    document = run_to_json(run)
    return own | {name: document[name] for name in _MAYBE_SHARED - shared.keys()}


def _same(one: object, other: object) -> bool:
    """Equal in JSON too, where 1, 1.0 and true are three values."""
    return one is other or (type(one) is type(other) and one == other)


def _listed(names: Iterable[str]) -> str:
    all_names = list(names)
    more = len(all_names) - _MOST_LISTED
    return ", ".join(all_names[:_MOST_LISTED]) + (f", ... ({more} more)" if more > 0 else "")
