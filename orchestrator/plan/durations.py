"""How long runs take: measured ones first, else the study's figure, and where a figure comes from.

Pure, but for `measure`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from merge.errors import RecordError
from merge.records.records import read_attempt
from merge.records.result import read_result
from merge.records.sweep import Run
from merge.storage.paths import RunPaths

Source = Literal["measured", "cell", "scaled", "study", "others", "unknown"]

EXPLANATIONS: Mapping[Source, str] = {
    "measured": "measured",
    "cell": "mean of the measured runs of its cell",
    "scaled": "the study's figure, scaled by what was measured",
    "study": "the study's figure, nothing measured yet",
    "others": "mean of the measured runs: the study gives no figure",
    "unknown": "unknown: all runs are taken as equal",
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The expected duration of a run, in hours, and where it comes from."""

    hours: float
    source: Source


def estimate(runs: Sequence[Run], measured_h: Mapping[str, float]) -> dict[str, Estimate]:
    """The expected duration of each run by its id; `measured_h` are hours of finished runs.

    A run without its own measurement takes the mean of its cell's; else the study's figure, scaled
    by the median of measured / figure; else the mean of all measured runs; else 1 h, `unknown`.
    """
    scale = _scale(runs, measured_h)
    by_cell: dict[str, list[float]] = {}
    for run in runs:
        if run.run_id in measured_h:
            by_cell.setdefault(run.cell, []).append(measured_h[run.run_id])
    return {run.run_id: _estimate_one(run, measured_h, by_cell, scale) for run in runs}


def longest_first(runs: Sequence[Run], estimates: Mapping[str, Estimate]) -> tuple[Run, ...]:
    """`runs` by falling duration; those that take equally long stay in their order."""
    return tuple(sorted(runs, key=lambda run: -estimates[run.run_id].hours))


def measure(output: Path, runs: Sequence[Run]) -> dict[str, float]:
    """Hours that the finished runs in `output` took, over all attempts, by run id. Reads only.

    Unreadable records, and runs during which the clock was set back, are left out: an estimate must
    not keep a sweep from running.
    """
    hours: dict[str, float] = {}
    for run in runs:
        seconds = _seconds(RunPaths(output / run.path), run.config_hash)
        if seconds is not None:
            hours[run.run_id] = seconds / 3600
    return hours


def _estimate_one(
    run: Run,
    measured_h: Mapping[str, float],
    by_cell: Mapping[str, Sequence[float]],
    scale: float | None,
) -> Estimate:
    figure = run.resources.hours
    if run.run_id in measured_h:
        return Estimate(measured_h[run.run_id], "measured")
    if run.cell in by_cell:
        return Estimate(statistics.fmean(by_cell[run.cell]), "cell")
    if figure is not None:
        return Estimate(figure, "study") if scale is None else Estimate(figure * scale, "scaled")
    if measured_h:
        return Estimate(statistics.fmean(measured_h.values()), "others")
    # Any number that is equal for all: it orders runs, and tables show a dash for it.
    return Estimate(1.0, "unknown")


def _scale(runs: Sequence[Run], measured_h: Mapping[str, float]) -> float | None:
    # The median, not the mean: one run on a slow host must not scale every estimate.
    ratios = [
        measured_h[run.run_id] / run.resources.hours
        for run in runs
        if run.run_id in measured_h and run.resources.hours is not None
    ]
    return statistics.median(ratios) if ratios else None


def _seconds(paths: RunPaths, config_hash: str) -> float | None:
    try:
        result = read_result(paths.result)
    except (FileNotFoundError, RecordError):
        return None
    # A clock that was set back during the run says nothing about how long it took.
    if result.config_hash != config_hash or result.finished < result.started:
        return None
    # A run that was interrupted took the time of all its attempts.
    earlier = sum(_attempt_seconds(paths, number) for number in range(1, result.attempt))
    return earlier + result.finished - result.started


def _attempt_seconds(paths: RunPaths, number: int) -> float:
    try:
        record = read_attempt(paths.attempt(number).record)
    except (FileNotFoundError, RecordError):
        return 0.0
    return max(0.0, record.ended - record.started) if record.ended else 0.0
