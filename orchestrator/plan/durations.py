"""How long runs take: measured ones first, else the study's figure, and where a figure comes from.

Pure, but for `measure` and what it calls.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

from merge.errors import RecordError
from merge.records.elapsed import elapsed_s
from merge.records.result import read_result
from merge.records.sweep import Run
from merge.storage.paths import RunPaths
from orchestrator.runs.training_time import resumable_s, trained_s

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
    begun_h: float = 0.0
    """Hours of training that the run goes on from."""

    @property
    def left_h(self) -> float:
        """Hours that the run still takes; 0 where it is done."""
        return 0.0 if self.source == "measured" else max(0.0, self.hours - self.begun_h)


class Finished(Protocol):
    """What a finished run says of its time: a result, or its entry in a merged view."""

    @property
    def attempt(self) -> int: ...
    @property
    def started(self) -> float: ...
    @property
    def finished(self) -> float: ...
    @property
    def trained_s(self) -> float | None: ...


def estimate(
    runs: Sequence[Run],
    measured_h: Mapping[str, float],
    begun_h: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Estimate]:
    """The expected duration of each run by its id.

    `measured_h` are hours of finished runs, `begun_h` what unfinished ones go on from.
    A run without its own measurement takes the mean of its cell's; else the study's figure, scaled
    by the median of measured / figure; else the mean of all measured runs; else 1 h, `unknown`.
    """
    scale = _scale(runs, measured_h)
    by_cell: dict[str, list[float]] = {}
    for run in runs:
        if run.run_id in measured_h:
            by_cell.setdefault(run.cell, []).append(measured_h[run.run_id])
    return {
        run.run_id: replace(
            _estimate_one(run, measured_h, by_cell, scale), begun_h=begun_h.get(run.run_id, 0.0)
        )
        for run in runs
    }


def estimate_from(output: Path | None, runs: Sequence[Run]) -> dict[str, Estimate]:
    """`estimate`, from what lies in `output`; None stands for no folder."""
    if output is None:
        return estimate(runs, {})
    measured_h = measure(output, runs)
    open_runs = [run for run in runs if run.run_id not in measured_h]
    return estimate(runs, measured_h, begun_h(output, open_runs))


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
        result = _result(RunPaths(output / run.path), run.config_hash)
        measured = None if result is None else finished_h(output, run, result)
        if measured is not None:
            hours[run.run_id] = measured
    return hours


def finished_h(output: Path, run: Run, result: Finished) -> float | None:
    """Hours that a finished run took, over all attempts; None where no clock can be believed."""
    seconds = elapsed_s(result.started, result.finished, result.trained_s)
    # A result of an older version knows the time of its last attempt only.
    if seconds is not None and result.trained_s is None and result.attempt > 1:
        seconds += trained_s(RunPaths(output / run.path), range(1, result.attempt))
    return None if seconds is None else seconds / 3600


def begun_h(output: Path, runs: Iterable[Run]) -> dict[str, float]:
    """Hours of training that each of the unfinished `runs` goes on from, by run id. Reads only."""
    return {run.run_id: resumable_s(RunPaths(output / run.path)) / 3600 for run in runs}


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


def _result(paths: RunPaths, config_hash: str) -> Finished | None:
    try:
        result = read_result(paths.result)
    except (FileNotFoundError, RecordError):
        return None
    return result if result.config_hash == config_hash else None
