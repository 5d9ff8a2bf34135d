"""One cell of the merged view: its runs' metrics, mean, deviation, interval, flags. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from merge.records.sweep import Run, Sweep
from merge.results.comparability import Flag, flags_of_cell
from merge.results.entries import Entry
from merge.results.spread import over_test_seeds
from merge.results.statistics import Interval, bootstrap_interval, mean, sample_std, t_interval
from merge.storage.json_files import is_finite_number

SUMMARY_KEYS = (
    "mean",
    "std",
    "n",
    "folds",
    "missing",
    "complete",
    "mean_of_present",
    "untrained",
    "ci",
    "test_seeds",
    "flags",
)
"""Keys of a cell beside the values of its averaged axis: no such value may be called so."""


def expected_values(sweep: Sweep, runs: Iterable[Run]) -> list[str]:
    """The values of the averaged axis that a cell with `runs` needs for its mean, as text."""
    needed = {str(value) for value in sweep.axis(sweep.average_over).values}
    names = [str(run.axes[sweep.average_over]) for run in runs]
    return [name for name in names if name in needed]


def cell_view(
    sweep: Sweep,
    runs: Sequence[Run],
    chosen: Mapping[str, Entry],
    more_flags: Sequence[Flag],
) -> dict[str, Any]:
    """What the merged view says of the cell with `runs`; `chosen` are results by run id."""
    done = {
        str(run.axes[sweep.average_over]): chosen[run.run_id]
        for run in runs
        if run.run_id in chosen
    }
    needed = expected_values(sweep, runs)
    missing = [name for name in needed if name not in done]
    counted = {name: done[name] for name in needed if name in done}
    entries = list(counted.values())
    is_complete = bool(needed) and not missing
    cell: dict[str, Any] = {name: dict(entry.metrics) for name, entry in done.items()}
    cell |= _summary(entries, is_complete=is_complete)
    cell |= {
        "n": len(counted),
        "folds": list(counted),
        "missing": missing,
        "complete": is_complete,
    }
    if is_complete:
        cell |= _of_complete(sweep, entries)
    flags = [*flags_of_cell(done), *more_flags] if done else list(more_flags)
    return {**cell, "flags": flags} if flags else cell


def _summary(entries: Sequence[Entry], *, is_complete: bool) -> dict[str, Any]:
    names = [
        name
        for name in (entries[0].metrics if entries else ())
        if all(name in entry.metrics for entry in entries)
    ]
    columns = {name: [entry.metrics[name] for entry in entries] for name in sorted(names)}
    means = {name: mean(column) for name, column in columns.items()}
    if is_complete:
        stds = {name: sample_std(column) for name, column in columns.items()}
        return {"mean": means, "std": stds}
    return {"mean": None, "std": None, **({"mean_of_present": means} if entries else {})}


def _of_complete(sweep: Sweep, entries: Sequence[Entry]) -> dict[str, Any]:
    view: dict[str, Any] = {}
    untrained = [entry.measured.get("untrained", {}).get(sweep.metric) for entry in entries]
    if all(is_finite_number(value) for value in untrained):
        view["untrained"] = {sweep.metric: mean(untrained)}
    test_seeds = over_test_seeds(entries, sweep.metric)
    if test_seeds is not None:
        view["test_seeds"] = test_seeds
    interval = _interval(sweep, entries)
    if interval is not None:
        view["ci"] = {"metric": sweep.metric, **interval.to_json()}
    return view


def _interval(sweep: Sweep, entries: Sequence[Entry]) -> Interval | None:
    """By the episodes where all runs have such an error; else over the runs."""
    values = [entry.metrics[sweep.metric] for entry in entries]
    errors = [
        entry.measured.get("bootstrap", {}).get("standard_error", {}).get(sweep.metric)
        for entry in entries
    ]
    if all(is_finite_number(error) for error in errors):
        return bootstrap_interval(values, errors, sweep.average_over)
    return t_interval(values, sweep.average_over)
