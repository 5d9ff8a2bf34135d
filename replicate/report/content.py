"""What every form of the report shows, derived once from the merged view. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from merge.records.result import Result
from merge.records.sweep import Run, Sweep
from merge.results.cells import COUNTED_KEY, UNUSABLE_KEY
from merge.results.combine import Merged, expected_values
from merge.results.parts import is_over_same_values, part_of_mean, part_text
from replicate.views.missing import ALL_COUNTED, Missing
from replicate.views.table import Format, format_of, some


class Verdict(StrEnum):
    """How a cell compares with the published number."""

    WITHIN = "within tolerance"
    ABOVE = "above"
    BELOW = "below"
    INCOMPLETE = "incomplete"
    PARTIAL = "not whole"
    OTHER_VALUES = "over other values"
    UNUSABLE = "unusable"
    NOT_PUBLISHED = "not published"

    def text(self, goal: str) -> str:
        """In words, for a metric with this goal: `below (better)`."""
        colour = self.css_class(goal)
        return f"{self} ({colour})" if colour in ("better", "worse") else str(self)

    def css_class(self, goal: str) -> str:
        """The class that colours it on the page, for a metric with this goal; empty for no colour.

        With goal min, a mean below the published one is the better one.
        """
        if self in (Verdict.ABOVE, Verdict.BELOW):
            return "better" if (self is Verdict.ABOVE) == (goal == "max") else "worse"
        if self in (Verdict.PARTIAL, Verdict.OTHER_VALUES, Verdict.UNUSABLE):
            return Verdict.INCOMPLETE.name.lower()
        return "" if self is Verdict.NOT_PUBLISHED else self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of the table: ours beside what is published. Values in the metric's own unit."""

    name: str
    values: Mapping[str, float]
    """By value of the averaged axis, as far as there are results."""
    needed: tuple[str, ...]
    mean: float | None
    """None unless complete."""
    std: float | None
    published: Mapping[str, float]
    """By value of the averaged axis, and `mean`."""
    verdict: Verdict
    note: str = ""
    """On the published number."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """By value of the averaged axis, and `mean`: `3/5 classes` where a number is over a part.

    Also `seed 0, 1` for a mean over other values than the published one.
    """
    missing: Mapping[str, str] = field(default_factory=dict)
    """By value of the averaged axis what is shown in the place of a number: `failed`."""
    untrained: float | None = None
    """The mean before training, of a complete cell."""
    interval: Mapping[str, Any] | None = None
    """Confidence interval of the mean, with its method; None where the merged view has none."""

    @property
    def difference(self) -> float | None:
        """Ours minus published; None where a mean is missing, or they are not over the same."""
        theirs = self.published.get("mean")
        if self.mean is None or theirs is None or "mean" in self.parts:
            return None
        return self.mean - theirs


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one run's attempts used, failed ones included."""

    hours: float
    device_hours: Mapping[str, float]
    """Device kind -> hours times devices."""
    num_attempts: int
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventCurve:
    """A run's numbers over its training, as its events have them."""

    name: str
    """The study's metric, or `loss`."""
    over: str
    """`epoch` or `step`."""
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A picture of predictions on test data that a run left."""

    run_id: str
    path: str
    """Relative to the output folder, with `/`."""
    data: bytes
    """The picture itself, as JPEG of at most 1000 px width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that a report shows."""

    sweep: Sweep
    document: Mapping[str, Any]
    cells: tuple[Cell, ...]
    results: Mapping[str, Result]
    usage: Mapping[str, Usage]
    panels: tuple[Panel, ...]
    warnings: tuple[str, ...]
    """What a reader must know before using a number."""
    form: Format
    columns: tuple[str, ...]
    """Values of the averaged axis that some cell has, in the axis's order."""
    failures: str = ""
    """How many runs failed, and of what; empty where none has."""
    curves: Mapping[str, EventCurve] = field(default_factory=dict)
    """By run id, of runs whose results have no history."""
    evaluations: Mapping[str, Merged] = field(default_factory=dict)
    """The trainings tested again under other settings, by name."""


def make_report(
    merged: Merged,
    results: Mapping[str, Result],
    usage: Mapping[str, Usage],
    panels: Sequence[Panel],
    warnings: Sequence[str],
    missing: Missing = ALL_COUNTED,
) -> Report:
    """The report of a merged view and the results behind it; `missing` are the other runs."""
    sweep = merged.sweep
    runs_of: dict[str, list[Run]] = {}
    for run in sweep.runs:
        if run.in_table or run.cell in merged.document["results"]:
            runs_of.setdefault(run.cell, []).append(run)
    cells = tuple(
        _cell(sweep, name, runs, merged.document, missing) for name, runs in runs_of.items()
    )
    return Report(
        sweep=sweep,
        document=merged.document,
        cells=cells,
        results=results,
        usage=usage,
        panels=tuple(panels),
        warnings=tuple(warnings),
        # Both look at every run or cell: computed for each row, a report of 10,000 runs took 12 s.
        form=format_of(sweep),
        columns=_columns(sweep, cells),
        failures=missing.failures(),
        evaluations=merged.evaluations,
    )


def judge_mean(mean: float | None, published: float | None, tolerance: float) -> Verdict:
    """The verdict on a mean; a cell without one is incomplete, published or not."""
    if mean is None:
        return Verdict.INCOMPLETE
    if published is None:
        return Verdict.NOT_PUBLISHED
    # Both are decimals with few digits: 0.71 - 0.70 must be within 0.01.
    if abs(mean - published) <= tolerance + 1e-9:
        return Verdict.WITHIN
    return Verdict.ABOVE if mean > published else Verdict.BELOW


def _columns(sweep: Sweep, cells: Sequence[Cell]) -> tuple[str, ...]:
    known = {name for cell in cells for name in cell.needed}
    values = (str(value) for value in sweep.axis(sweep.average_over).values)
    return tuple(value for value in values if value in known)


def _verdict(
    view: Mapping[str, Any], mean: float | None, published: Mapping[str, float], sweep: Sweep
) -> Verdict:
    if UNUSABLE_KEY in view:
        return Verdict.UNUSABLE
    # A mean over a part of the classes is no mean to compare with that of a paper.
    if mean is not None and part_of_mean(view, sweep.metric):
        return Verdict.PARTIAL
    is_comparable = mean is None or is_over_same_values(view[COUNTED_KEY], published)
    # So is one over other seeds than the paper's.
    if "mean" in published and not is_comparable:
        return Verdict.OTHER_VALUES
    # Without a tolerance the mean must be equal (docs/studies.md).
    return judge_mean(mean, published.get("mean"), sweep.published.get("tolerance", 0.0))


def _parts(
    view: Mapping[str, Any], needed: Sequence[str], published: Mapping[str, float], sweep: Sweep
) -> dict[str, str]:
    texts = {name: part_text(view, name, sweep.metric) for name in needed}
    texts["mean"] = part_of_mean(view, sweep.metric)
    if "mean" in published and not is_over_same_values(needed, published):
        # Else a reader would take it for the mean over the paper's values.
        texts["mean"] = texts["mean"] or f"{sweep.average_over} {some(needed)}"
    return {name: text for name, text in texts.items() if text}


def _cell(
    sweep: Sweep,
    name: str,
    runs: Sequence[Run],
    document: Mapping[str, Any],
    missing: Missing,
) -> Cell:
    view = document["results"].get(name, {})
    published = sweep.published.get("cells", {}).get(name, {})
    needed = tuple(expected_values(sweep, runs))
    is_complete = bool(view.get("complete"))
    baseline = sweep.manifest.baseline
    mean = view["mean"][sweep.metric] if is_complete else None
    return Cell(
        name=name,
        values={key: view[key][sweep.metric] for key in needed if key in view},
        needed=needed,
        mean=mean,
        std=view["std"][sweep.metric] if is_complete else None,
        published={str(key): value for key, value in published.items()},
        verdict=_verdict(view, mean, published, sweep),
        parts=_parts(view, needed, published, sweep),
        missing={str(r.axes[sweep.average_over]): missing.text(r) for r in missing.of(runs)},
        note=sweep.published.get("notes", {}).get(name, ""),
        untrained=view.get(baseline.label, {}).get(sweep.metric) if baseline else None,
        interval=view.get("ci") if is_complete else None,
    )
