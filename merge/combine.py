"""Combination of results into the merged view: pure, and the same for any order of its inputs.

The view has the form that readers of `replication_results.json` know (S3-7): by cell, then by value
of the averaged axis. A mean stands under `mean` only where no run of the cell is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merge.collect import Collected, Problem
from merge.errors import ConfigChangedError
from merge.files import is_finite_number
from merge.records import Result
from merge.statistics import mean, sample_std
from merge.sweep import SCHEMA, Run, Sweep

SUMMARY_KEYS = (
    "mean",
    "std",
    "n",
    "folds",
    "missing",
    "complete",
    "mean_of_present",
    "untrained",
    "flags",
)
"""Keys of a cell beside the values of its averaged axis: no such value may be called so."""

_COMPARED = (
    ("code", "source"),
    ("code", "version"),
    ("details", "data_fingerprint"),
    ("details", "protocol"),
    ("details", "mask_variant"),
    ("details", "global_batch"),
    ("details", "weights"),
    ("details", "test_seeds"),
    ("details", "test_episodes"),
    ("details", "eval_size"),
    ("details", "pair_list"),
)
"""What must be equal in all runs of a cell for their mean to mean something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two different results of one run: none of them is counted."""

    run_id: str
    sources: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The merged view and what was left out of it."""

    document: dict[str, Any]
    """What `replication_results.json` holds."""
    sweep: Sweep
    conflicts: tuple[Conflict, ...]
    problems: tuple[Problem, ...]
    aside: tuple[Problem, ...]

    @property
    def is_clean(self) -> bool:
        """Whether every file that was found could be counted."""
        return not (self.conflicts or self.problems or self.aside)

    @property
    def is_complete(self) -> bool:
        """Whether every cell that has a result has all of them."""
        return all(cell["complete"] for cell in self.document["results"].values())


def combine(inputs: Mapping[str, Collected]) -> Merged:
    """Merge the output folders `inputs` (by name). ConfigChangedError where their plans differ."""
    sweep = _common_sweep(inputs)
    results, conflicts = _unite(inputs)
    cells = _by_cell(sweep.runs)
    merged_cells = {
        cell: _merge_cell(sweep, runs, results)
        for cell, runs in cells.items()
        if any(run.run_id in results for run in runs)
    }
    document = {
        "schema": SCHEMA,
        "study": sweep.study,
        "metric": sweep.metric,
        "goal": sweep.goal,
        "average_over": sweep.average_over,
        "results": merged_cells,
        "cells_without_results": sorted(
            cell
            for cell, runs in cells.items()
            if cell not in merged_cells and any(run.in_table for run in runs)
        ),
        "conflicts": [
            {"run_id": c.run_id, "sources": list(c.sources), "values": list(c.values)}
            for c in conflicts
        ],
        "published": dict(sweep.published),
    }
    return Merged(
        document=document,
        sweep=sweep,
        conflicts=conflicts,
        problems=_sorted(problem for c in inputs.values() for problem in c.problems),
        aside=_sorted(problem for c in inputs.values() for problem in c.aside),
    )


def expected_values(sweep: Sweep, runs: Iterable[Run]) -> list[str]:
    """The values of the averaged axis that a cell with `runs` needs for its mean, as text."""
    needed = {str(value) for value in sweep.axis(sweep.average_over).values}
    names = [str(run.axes[sweep.average_over]) for run in runs]
    return [name for name in names if name in needed]


def _common_sweep(inputs: Mapping[str, Collected]) -> Sweep:
    names = sorted(inputs)
    first = inputs[names[0]].sweep
    planned = {run.run_id: run.config_hash for run in first.runs}
    for name in names[1:]:
        other = inputs[name].sweep
        if (other.study, other.average_over, other.metric) != (
            first.study,
            first.average_over,
            first.metric,
        ):
            raise ConfigChangedError(
                f"{names[0]} holds study {first.study!r} (metric {first.metric}), "
                f"{name} holds {other.study!r} (metric {other.metric}): merge them separately"
            )
        differing = [r.run_id for r in other.runs if planned.get(r.run_id) != r.config_hash]
        if differing or len(other.runs) != len(planned):
            raise ConfigChangedError(
                f"{names[0]} and {name} hold different configurations of study {first.study!r} "
                f"({len(differing) or 'some'} runs differ, such as {differing[:1]}): "
                f"their numbers cannot stand in one table; merge them separately"
            )
    return first


def _unite(
    inputs: Mapping[str, Collected],
) -> tuple[dict[str, Result], tuple[Conflict, ...]]:
    found: dict[str, list[tuple[str, Result]]] = {}
    for name in sorted(inputs):
        for run_id, result in inputs[name].results.items():
            found.setdefault(run_id, []).append((name, result))
    results: dict[str, Result] = {}
    conflicts: list[Conflict] = []
    for run_id in sorted(found):
        entries = found[run_id]
        result = entries[0][1]
        if all(other.metrics == result.metrics for _, other in entries):
            results[run_id] = min((r for _, r in entries), key=lambda r: (r.finished, r.token))
        else:
            metric = inputs[entries[0][0]].sweep.metric
            conflicts.append(
                Conflict(
                    run_id=run_id,
                    sources=tuple(name for name, _ in entries),
                    values=tuple(r.metrics.get(metric, float("nan")) for _, r in entries),
                )
            )
    return results, tuple(conflicts)


def _by_cell(runs: Iterable[Run]) -> dict[str, list[Run]]:
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.cell, []).append(run)
    return cells


def _merge_cell(sweep: Sweep, runs: Sequence[Run], results: Mapping[str, Result]) -> dict[str, Any]:
    done = {
        str(run.axes[sweep.average_over]): results[run.run_id]
        for run in runs
        if run.run_id in results
    }
    needed = expected_values(sweep, runs)
    missing = [name for name in needed if name not in done]
    counted = [done[name] for name in needed if name in done]
    means, stds = _summaries(counted)
    cell: dict[str, Any] = {name: dict(result.metrics) for name, result in done.items()}
    cell["mean"] = None if missing else means
    cell["std"] = None if missing else stds
    cell["n"] = len(counted)
    cell["folds"] = [name for name in needed if name in done]
    cell["missing"] = missing
    cell["complete"] = not missing
    if missing and counted:
        cell["mean_of_present"] = means
    untrained = [result.details.get("untrained") for result in counted]
    if not missing and all(untrained):
        cell["untrained"] = _untrained_means(sweep.metric, untrained)
    flags = _differences(done)
    if flags:
        cell["flags"] = flags
    return cell


def _summaries(
    results: Sequence[Result],
) -> tuple[dict[str, float], dict[str, float | None]]:
    names = [
        name
        for name in (results[0].metrics if results else ())
        if all(name in result.metrics for result in results)
    ]
    values = {name: [result.metrics[name] for result in results] for name in names}
    means = {name: mean(column) for name, column in values.items()}
    return means, {name: sample_std(column) for name, column in values.items()}


def _untrained_means(metric: str, untrained: Sequence[Any]) -> dict[str, float]:
    """The means of what the models scored before training, where every run recorded it."""
    values = [
        float(entry[metric])
        for entry in untrained
        if isinstance(entry, dict) and is_finite_number(entry.get(metric))
    ]
    return {metric: mean(values)} if len(values) == len(untrained) else {}


def _differences(done: Mapping[str, Result]) -> list[dict[str, Any]]:
    flags = []
    for part, key in _COMPARED:
        groups: dict[str, list[str]] = {}
        for name, result in done.items():
            value = (result.code if part == "code" else result.details).get(key)
            groups.setdefault(str(value), []).append(name)
        if len(groups) > 1:
            flags.append({"differs": f"{part}.{key}", "runs": groups})
    return flags


def _sorted(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda p: (p.run_id, p.file, p.reason)))
