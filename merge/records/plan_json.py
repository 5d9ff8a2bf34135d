"""The short form of a plan, which a merged view carries: what all runs share stands once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from merge.records.sweep import Run, Sweep, run_to_json, sweep_from_json

_ABSENT = object()
_MAYBE_SHARED = frozenset({"experiment", "command", "resources", "in_table"})
"""What the runs of most sweeps have in common."""


def plan_to_json(sweep: Sweep) -> dict[str, Any]:
    """`sweep` with what its runs share written once; without published numbers and its growth."""
    document = sweep.to_json(with_runs=False)
    del document["published"]
    # A plan that grew and one that was made whole give the same view.
    document.pop("growth", None)
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
    if run.checkpoint is not None:
        own["checkpoint"] = run.checkpoint.to_json()
    if shared.keys() >= _MAYBE_SHARED:
        return own
    # Rare, and slow: a run's document copies its whole configuration.
    document = run_to_json(run)
    return own | {name: document[name] for name in _MAYBE_SHARED - shared.keys()}


def _same(one: object, other: object) -> bool:
    """Equal in JSON too, where 1, 1.0 and true are three values."""
    return one is other or (type(one) is type(other) and one == other)
