"""One cell of the merged view: its runs' metrics, mean, deviation, interval, flags. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from merge.records.manifest import Manifest
from merge.records.sweep import Run, Sweep
from merge.results.comparability import flags_of_cell
from merge.results.entries import Entry
from merge.results.flags import Flag
from merge.results.parts import (
    PARTS_KEY,
    REMARKS_KEY,
    parts_flags,
    parts_of_cell,
    remarks_of_cell,
    unit_flags,
)
from merge.results.spread import over_test_seeds
from merge.results.statistics import Interval, bootstrap_interval, mean, sample_std, t_interval
from merge.storage.json_files import is_finite_number

COUNTED_KEY = "folds"
"""Which values of the averaged axis are counted. The key's name is part of the file's form, which
readers know since the original script, for any averaged axis."""

UNUSABLE_KEY = "unusable"
"""Of a cell whose runs are all there, and whose numbers cannot be averaged: why."""

_SUMMARY_KEYS = (
    *("mean", "std", "n", COUNTED_KEY, "missing", "complete", "mean_of_present"),
    *("ci", "test_seeds", "flags", PARTS_KEY, REMARKS_KEY, UNUSABLE_KEY),
)


def summary_keys(baseline: str | None) -> tuple[str, ...]:
    """Keys of a cell beside the values of its averaged axis: no such value may be called so.

    `baseline` is the label of the metrics before training, where there are any.
    """
    return _SUMMARY_KEYS if baseline is None else (*_SUMMARY_KEYS, baseline)


def expected_values(sweep: Sweep, runs: Iterable[Run]) -> list[str]:
    """The values of the averaged axis that a cell with `runs` needs for its mean, as text."""
    # Only the values of the table: one of `also` is shown, but is no part of the mean.
    needed = {str(value) for value in sweep.axis(sweep.average_over).values}
    names = [str(run.axes[sweep.average_over]) for run in runs]
    return [name for name in names if name in needed]


def cell_view(
    sweep: Sweep,
    manifest: Manifest,
    runs: Sequence[Run],
    chosen: Mapping[str, Entry],
    more_flags: Sequence[Flag],
) -> dict[str, Any]:
    """The entry of one cell in the merged view; `chosen` are the counted results by run id."""
    done = {
        str(run.axes[sweep.average_over]): chosen[run.run_id]
        for run in runs
        if run.run_id in chosen
    }
    needed = expected_values(sweep, runs)
    missing = [name for name in needed if name not in done]
    counted = {name: done[name] for name in needed if name in done}
    entries = list(counted.values())
    spreads = _spreads(entries)
    problem = _too_large(counted, sweep) if entries and sweep.metric not in spreads else ""
    # A cell that consists of `also` values alone needs nothing, and so can never have a mean.
    is_complete = bool(needed) and not missing and not problem
    # Values and summary stand side by side in one mapping, as in the original script's files.
    cell: dict[str, Any] = {name: dict(entry.metrics) for name, entry in done.items()}
    cell |= _summary(spreads, is_begun=bool(entries), is_complete=is_complete)
    cell |= {
        "n": len(counted),
        COUNTED_KEY: list(counted),
        "missing": missing,
        "complete": is_complete,
    }
    if is_complete:
        cell |= _of_complete(sweep, manifest, entries)
    if problem:
        cell[UNUSABLE_KEY] = problem
    flags = [*more_flags, *unit_flags(counted, manifest.metric(sweep.metric))]
    return cell | _what_to_know(done, manifest, sweep.average_over, flags)


def _what_to_know(
    done: Mapping[str, Entry], manifest: Manifest, axis: str, more_flags: Sequence[Flag]
) -> dict[str, Any]:
    """What a reader of the numbers must know: parts, remarks, flags, as far as there are any."""
    parts = parts_of_cell(done, manifest)
    own = flags_of_cell(done, manifest.comparability.equal_in_a_cell) if done else []
    found = {
        PARTS_KEY: parts,
        REMARKS_KEY: remarks_of_cell(done, manifest, axis),
        "flags": [*own, *more_flags, *parts_flags(parts, manifest)],
    }
    return {key: value for key, value in found.items() if value}


def _too_large(counted: Mapping[str, Entry], sweep: Sweep) -> str:
    """Why the study's metric has no mean and deviation over the runs that are counted."""
    values = {name: entry.metrics[sweep.metric] for name, entry in counted.items()}
    name = max(values, key=lambda each: abs(values[each]))
    return (
        f"{sweep.metric} of {sweep.average_over} {name} is {values[name]:.4g}: too large for a mean"
    )


_Spread = tuple[float, float | None]
"""Mean and deviation."""


def _spreads(entries: Sequence[Entry]) -> dict[str, _Spread]:
    """Of each metric that all `entries` have and that is not too large for statistics."""
    names = [
        name
        for name in (entries[0].metrics if entries else ())
        # A mean over a part of the runs would look like the mean of all.
        if all(name in entry.metrics for entry in entries)
    ]
    columns = {name: [entry.metrics[name] for entry in entries] for name in sorted(names)}
    return {n: spread for n, column in columns.items() if (spread := _spread_of(column))}


def _spread_of(column: Sequence[float]) -> _Spread | None:
    """Mean and deviation; None where the numbers are too large for them."""
    try:
        return mean(column), sample_std(column)
    except OverflowError:
        return None


def _summary(
    spreads: Mapping[str, _Spread], *, is_begun: bool, is_complete: bool
) -> dict[str, Any]:
    means = {name: spread[0] for name, spread in spreads.items()}
    if is_complete:
        return {"mean": means, "std": {name: spread[1] for name, spread in spreads.items()}}
    return {"mean": None, "std": None, **({"mean_of_present": means} if is_begun else {})}


def _of_complete(sweep: Sweep, manifest: Manifest, entries: Sequence[Entry]) -> dict[str, Any]:
    view: dict[str, Any] = {}
    if manifest.baseline is not None:
        label = manifest.baseline.label
        before = [entry.measured.get(label, {}).get(sweep.metric) for entry in entries]
        if all(is_finite_number(value) for value in before) and (spread := _spread_of(before)):
            view[label] = {sweep.metric: spread[0]}
    # What a trainer records beside its metrics may be too large, too.
    with suppress(OverflowError):
        test_seeds = over_test_seeds(entries, sweep.metric)
        if test_seeds is not None:
            view["test_seeds"] = test_seeds
    with suppress(OverflowError):
        interval = _interval(sweep, manifest, entries)
        if interval is not None:
            view["ci"] = {"metric": sweep.metric, **interval.to_json()}
    return view


def _interval(sweep: Sweep, manifest: Manifest, entries: Sequence[Entry]) -> Interval | None:
    """From the bootstrap over test items if every run has one; else Student's t over the runs."""
    values = [entry.metrics[sweep.metric] for entry in entries]
    errors = [
        entry.measured.get("bootstrap", {}).get("standard_error", {}).get(sweep.metric)
        for entry in entries
    ]
    # All or none: an interval that covers different things in different runs covers nothing.
    if all(is_finite_number(error) for error in errors):
        return bootstrap_interval(values, errors, manifest.bootstrap, sweep.average_over)
    return t_interval(values, sweep.average_over)
