"""Files that the original script wrote: numbers without a configuration.

`{"results": {"pascal5i_resnet50_1shot": {"0": {"miou": 0.66}, ..., "mean": {"miou": 0.66}}}}`, and
per-run files `<cell>/fold<i>/result.json` (or results.json, metrics.json) with `{"miou": 0.66}`.

Stored means are ignored: the original script did not always update them. The values decide whether
a file is in percent or in fractions: for a metric with `iou` or `acc` in its name, a value above 1
is percent. Entries are always fractions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from merge.errors import RecordError
from merge.records.manifest import default_manifest
from merge.records.metrics import NUMBER, PERCENT, Goal, suggests_lower_is_better
from merge.records.sweep import Axis, Run, Sweep
from merge.results.cells import summary_keys
from merge.results.entries import Entry
from merge.results.statistics import mean
from merge.storage.json_files import is_finite_number

Unit = Literal["percent", "fraction"]

PER_RUN_NAMES = ("result.json", "results.json", "metrics.json")
FOLDS = ("0", "1", "2", "3")
"""What a cell needs at least: without a plan the field's four folds are expected."""

_SUMMARY_KEYS = summary_keys("untrained")
_FOLD = re.compile(r"(?:fold)?[_-]?(\d+)")
_RATIO = re.compile(r"iou|acc", re.IGNORECASE)
_STALE_TOLERANCE = 6e-5
"""Stored means that differ by less were rounded, to two decimals of a percent at the coarsest."""


@dataclass(frozen=True, slots=True)
class Number:
    """The metrics of a cell and a fold, as written."""

    cell: str
    fold: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyFile:
    """What a legacy file, or the per-run files of a folder, hold."""

    numbers: tuple[Number, ...]
    means: Mapping[str, Mapping[str, float]]
    """As stored, by cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyEntry:
    """A number that the original script wrote: of a cell and a fold, without a configuration."""

    cell: str
    averaged: str
    """Its value of the averaged axis: the fold, as text."""
    metrics: Mapping[str, float]
    """Fractions, also where percent was written."""
    unit: str
    """`percent` or `fraction`: what was written."""

    def to_json(self) -> dict[str, Any]:
        return {
            "cell": self.cell,
            "fold": self.averaged,
            "metrics": self.metrics,
            "unit": self.unit,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The entry that `to_json` wrote. KeyError or TypeError where `document` is none."""
        fields = dict(document)
        return cls(averaged=fields.pop("fold"), **fields)

    def as_entry(self, run_id: str) -> Entry:
        """This number as a result of the run `run_id`."""
        return Entry(
            run_id=run_id,
            # Empty, which no planned run has: a legacy number can never pass for a trained result.
            config_hash="",
            metrics=self.metrics,
            attempt=0,
            token="",
            started=0.0,
            finished=0.0,
            legacy_unit=self.unit,
        )


def fold_name(text: str) -> str | None:
    """`0` of `0`, `fold0` or `fold_0`; None where `text` names no fold."""
    match = _FOLD.fullmatch(text)
    return str(int(match[1])) if match else None


def is_legacy(document: Mapping[str, Any]) -> bool:
    """Whether `document` has the original form."""
    results = document.get("results")
    return isinstance(results, dict) and all(isinstance(cell, dict) for cell in results.values())


def read_legacy(document: Mapping[str, Any]) -> LegacyFile:
    """The numbers in a document of the original form. RecordError where a fold has none."""
    # Earlier versions of this program wrote the same form and a schema, with any names of folds.
    is_ours = "schema" in document
    numbers: list[Number] = []
    means: dict[str, Mapping[str, float]] = {}
    for cell, view in document["results"].items():
        for key, value in view.items():
            # Beside the folds stand mean, std and, in files of ours, the keys of a summary.
            if key in _SUMMARY_KEYS:
                continue
            fold = key if is_ours else fold_name(key)
            if fold is None:
                raise RecordError(f"cell {cell} has {key!r}, which is neither a fold nor a mean")
            numbers.append(Number(cell, fold, metrics_of(value, f"cell {cell}, fold {fold}")))
        if isinstance(view.get("mean"), dict):
            means[cell] = {k: v for k, v in view["mean"].items() if is_finite_number(v)}
    if not numbers:
        raise RecordError("has no number for any fold")
    return LegacyFile(numbers=tuple(numbers), means=means)


def metrics_of(value: object, what: str) -> dict[str, float]:
    """The numbers in `value`, `{"miou": 0.66}` or `{"metrics": {...}}`; RecordError without any."""
    if isinstance(value, dict) and isinstance(value.get("metrics"), dict):
        value = value["metrics"]
    if not isinstance(value, dict):
        raise RecordError(f'{what} is {value!r}, not {{"miou": <number>}}')
    metrics = {name: float(v) for name, v in value.items() if is_finite_number(v)}
    if not metrics:
        raise RecordError(f"{what} has no number")
    return metrics


def detect_unit(numbers: Sequence[Number]) -> Unit:
    """How the ratios among `numbers` are written. RecordError, naming values, where unclear."""
    ratios = _ratios(numbers)
    impossible = [text for value, text in ratios if not 0 <= value <= 100]
    if impossible:
        raise RecordError(f"is neither percent nor fraction ({_some(impossible)})")
    percent = [text for value, text in ratios if value > 1]
    # 0 fits both units. Values below 1 could be percent too (0.4%), so one that is above 1 in the
    # same file makes it unclear.
    fraction = [text for value, text in ratios if 0 < value <= 1]
    if percent and fraction:
        raise RecordError(
            f"mixes percent ({_some(percent)}) and fractions ({_some(fraction)}): "
            f"say which with --legacy-unit, or correct the file"
        )
    return "percent" if percent else "fraction"


def refuse_impossible(numbers: Sequence[Number], unit: Unit) -> None:
    """RecordError, naming values, where ratios among `numbers` cannot be written in `unit`."""
    most = 100 if unit == "percent" else 1
    impossible = [text for value, text in _ratios(numbers) if not 0 <= value <= most]
    if impossible:
        raise RecordError(f"is not in {unit} ({_some(impossible)}): correct --legacy-unit")


def _ratios(numbers: Sequence[Number]) -> list[tuple[float, str]]:
    return [
        (value, f"{number.cell} fold {number.fold}: {name} {value:g}")
        for number in numbers
        for name, value in number.metrics.items()
        if _RATIO.search(name)
    ]


def legacy_entries(file: LegacyFile, unit: Unit) -> list[LegacyEntry]:
    """The numbers of `file`, written in `unit`, as fractions."""
    return [
        LegacyEntry(
            cell=number.cell,
            averaged=number.fold,
            metrics=_as_fractions(number.metrics, unit),
            unit=unit,
        )
        for number in file.numbers
    ]


def stale_means(file: LegacyFile, unit: Unit) -> Iterator[str]:
    """A line for each stored mean that its own folds do not have."""
    for cell, stored in file.means.items():
        numbers = [_as_fractions(n.metrics, unit) for n in file.numbers if n.cell == cell]
        for name, value in _as_fractions(stored, unit).items():
            found = [metrics[name] for metrics in numbers if name in metrics]
            own = _mean_or_inf(found) if found else value
            if abs(own - value) > _STALE_TOLERANCE:
                yield (
                    f"the stored mean {name} {value:g} of {cell} is stale: its {len(found)} folds "
                    f"have {own:g}; stored means are ignored"
                )


def _mean_or_inf(values: Sequence[float]) -> float:
    try:
        return mean(values)
    except OverflowError:
        return math.inf


def sweep_of_legacy(entries: Sequence[LegacyEntry]) -> Sweep:
    """A stand-in for the plan that legacy numbers do not have: their cells, and four folds."""
    cells = sorted({entry.cell for entry in entries})
    # By length first: fold 10 comes after fold 9.
    folds = sorted({*FOLDS, *(entry.averaged for entry in entries)}, key=lambda f: (len(f), f))
    metric = _main_metric(entries)
    # The files do not say it; their names do.
    goal: Goal = "min" if suggests_lower_is_better(metric) else "max"
    return Sweep(
        study="legacy",
        title="",
        axes=(Axis(name="cell", values=tuple(cells)), Axis(name="fold", values=tuple(folds))),
        average_over="fold",
        metric=metric,
        goal=goal,
        settings={},
        runs=tuple(_run(cell, fold) for cell in cells for fold in folds),
        code={},
        # A loss is no fraction: 0.5 is not 50 percent, and 66.3 is a loss like any other.
        frozen_manifest=default_manifest(
            metric, goal, PERCENT if _RATIO.search(metric) else NUMBER
        ),
    )


def _run(cell: str, fold: str) -> Run:
    axes = {"cell": cell, "fold": fold}
    return Run(
        run_id=f"{cell}-fold{fold}",
        path=f"{cell}/fold{fold}",
        cell=cell,
        axes=axes,
        config=axes,
        config_hash="",
        # The original script trained few-shot segmentation only.
        experiment="fewshot",
    )


def _main_metric(entries: Sequence[LegacyEntry]) -> str:
    names = {name for entry in entries for name in entry.metrics}
    return "miou" if "miou" in names else min(names)


def _as_fractions(metrics: Mapping[str, float], unit: Unit) -> dict[str, float]:
    if unit == "fraction":
        return dict(metrics)
    from decimal import Decimal

    # Through the decimal text, so that 66.32 becomes the float 0.6632 and not its neighbour.
    return {
        name: float(Decimal(repr(value)) / 100) if _RATIO.search(name) else value
        for name, value in metrics.items()
    }


def _some(texts: Iterable[str]) -> str:
    found = list(texts)
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
