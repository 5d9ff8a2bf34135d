"""Means and deviations over the axes that repeat a measurement, such as seeds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from merge.records.sweep import Run, Sweep
from merge.results.entries import PARTS, Entry
from merge.results.parts import part_of_entry
from merge.results.statistics import mean, sample_std, t_interval


def over_both(sweep: Sweep, counted: Mapping[str, Entry]) -> dict[str, Any]:
    """Cells that differ only in another repeating axis, taken together; by the axes they share.

    Empty where the study does not repeat its cells over such an axis.
    """
    repeats = sweep.manifest.repeats
    other = second_axis(sweep, repeats)
    if other is None:
        return {}
    groups: dict[str, list[Run]] = {}
    needed = {
        name: {str(v) for v in sweep.axis(name).values} for name in (sweep.average_over, other)
    }
    for run in sweep.runs:
        if all(str(run.axes[name]) in values for name, values in needed.items()):
            groups.setdefault(_shared_axes(sweep, run, other), []).append(run)
    found = {}
    for name, runs in groups.items():
        if any(run.run_id in counted for run in runs):
            # Numbers that are too large for statistics: their cells say so.
            with suppress(OverflowError):
                found[name] = _spread(sweep, other, repeats, runs, counted)
    return found


def second_axis(sweep: Sweep, repeats: Sequence[str]) -> str | None:
    """The axis beside the averaged one over which runs are repeated; None where there is none."""
    names = {axis.name for axis in sweep.axes}
    further = [n for n in repeats if n in names and n != sweep.average_over]
    # Only where cells average over a repeating axis themselves: a mean over seeds of means over
    # learning rates would be no statistic of repeated measurements.
    return further[0] if further and (sweep.average_over in repeats) else None


def over_test_seeds(counted: Sequence[Entry], metric: str) -> dict[str, Any] | None:
    """A complete cell's mean for each test seed, and their spread.

    None where its runs have no such numbers, or not of the same test seeds.
    """
    each = [entry.measured.get("by_test_seed", {}) for entry in counted]
    first = each[0]
    # Means over different seeds would compare runs by different tests.
    if not first or any(one.keys() != first.keys() for one in each):
        return None
    means = {
        seed: mean([one[seed][metric] for one in each])
        # Seeds are keys of JSON, so text: by length first, as numbers sort.
        for seed in sorted(first, key=lambda text: (len(text), text))
        if all(metric in one[seed] for one in each)
    }
    if not means:
        return None
    return {"mean_by_seed": means, "n": len(means), "std": sample_std(list(means.values()))}


def _shared_axes(sweep: Sweep, run: Run, other: str) -> str:
    names = [axis.name for axis in sweep.axes if axis.name not in (sweep.average_over, other)]
    return ",".join(f"{name}={run.axes[name]}" for name in names) or "all"


def _spread(
    sweep: Sweep,
    other: str,
    repeats: Sequence[str],
    runs: Sequence[Run],
    counted: Mapping[str, Entry],
) -> dict[str, Any]:
    names = (sweep.average_over, other)
    table = {
        (str(run.axes[names[0]]), str(run.axes[names[1]])): counted[run.run_id].metrics[
            sweep.metric
        ]
        for run in runs
        if run.run_id in counted
    }
    missing = [run.run_id for run in runs if run.run_id not in counted]
    parts = {
        run.run_id: part
        for run in runs
        # First what is cheap: the manifest of an old plan is made anew at each call.
        if run.run_id in counted and counted[run.run_id].measured.get(PARTS)
        if (part := part_of_entry(counted[run.run_id], sweep.metric, sweep.manifest))
    }
    means = [_means_along(runs, names, index, table) for index in (0, 1)]
    view: dict[str, Any] = {
        "metric": sweep.metric,
        "n": len(table),
        "missing": missing,
        "complete": not missing,
        "mean": None if missing else mean(list(table.values())),
        **({"parts": parts} if parts else {}),
        f"by_{names[0]}": means[0],
        f"by_{names[1]}": means[1],
    }
    if not missing:
        view["std"] = {
            names[0]: sample_std(list(means[0].values())),
            names[1]: sample_std(list(means[1].values())),
            "both": sample_std(list(table.values())),
        }
        # The manifest lists last the axis whose values are independent draws of one thing.
        last = max(names, key=repeats.index)
        interval = t_interval(list(means[names.index(last)].values()), last)
        view["ci"] = interval and interval.to_json()
    return view


def _means_along(
    runs: Sequence[Run],
    names: tuple[str, str],
    index: int,
    table: Mapping[tuple[str, str], float],
) -> dict[str, Any]:
    """For each value of one axis the mean over the other; None where one of those is missing."""
    keys: dict[str, list[tuple[str, str]]] = {}
    for run in runs:
        key = (str(run.axes[names[0]]), str(run.axes[names[1]]))
        keys.setdefault(key[index], []).append(key)
    return {
        value: mean([table[key] for key in wanted]) if all(k in table for k in wanted) else None
        for value, wanted in keys.items()
    }
