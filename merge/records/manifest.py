"""The manifest of an experiment: its metrics, traits and words, as data.

`experiments/<name>/manifest.yaml` declares it, and a plan freezes it (`manifest` in `sweep.json`),
so that merge, status and report read no code of an experiment. docs/studies.md lists the keys.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.records.metrics import Goal, Metric, Range, metric_from_json

_DEFAULTS = Path(__file__).parent / "default_manifest.json"
BATCH_NORM_ITEMS = "batch_norm_items"
"""Detail of a result: over how many items batch norm took its statistics, where it was trained."""
_ALWAYS_RECORDED = ("torch", BATCH_NORM_ITEMS)
"""Trainers of ours record them: a cell may mix neither two major versions nor two sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTestList:
    """Runs whose configurations agree in `decided_by` are tested on one list of items."""

    hash: str
    """Detail of a result that is the list's hash."""
    decided_by: tuple[str, ...]
    """Keys of a configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparability:
    """Which details of results must be equal for their numbers to stand in one mean."""

    recorded: tuple[str, ...] = ()
    """Details that a merged view keeps of each result, in this order."""
    equal_in_a_cell: tuple[str, ...] = ()
    """Those that the runs of a cell share."""
    equal_in_a_pair: tuple[str, ...] = ()
    """Those that two compared runs share: methods differ in much, but not in their test."""
    test_list: SharedTestList | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Metrics of the model before training, shown beside the results."""

    label: str
    details: str
    """Detail of a result that holds these metrics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A metric at several steps of one prediction, such as after each iteration of a method."""

    details: str
    """Key of an evaluation's details that holds the list of values."""
    label: str
    """What a step is called."""
    title: str
    """Heading of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportWords:
    """What a report shows of an experiment's results."""

    provenance: tuple[str, ...] = ()
    """Details that say what the numbers were made with."""
    panels_title: str = ""
    """Heading of the pictures."""
    panels_show: str = ""
    """What a picture shows, in two words."""
    series: Series | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the other layers know of an experiment."""

    title: str = ""
    metrics: tuple[Metric, ...] = ()
    comparability: Comparability = field(default_factory=Comparability)
    repeats: tuple[str, ...] = ()
    """Axes that only repeat a measurement. Over two of them, the interval is of the last one."""
    baseline: Baseline | None = None
    bootstrap: str = "bootstrap"
    """What an interval drawn over the test items of a run is called."""
    report: ReportWords = field(default_factory=ReportWords)
    batch_norm: bool | Mapping[str, Any] = False
    """Whether batch norm is trained: in all configurations, or in those with these values."""

    def has_batch_norm(self, config: Mapping[str, Any]) -> bool:
        """Whether a run with `config` trains batch norm, as far as the manifest says."""
        if isinstance(self.batch_norm, bool):
            return self.batch_norm
        return all(config.get(key) == value for key, value in self.batch_norm.items())

    def metric(self, name: str) -> Metric:
        """The metric `name`; one without a unit where the manifest does not declare it."""
        return next((each for each in self.metrics if each.name == name), Metric(name=name))

    def bounds(self) -> tuple[tuple[str, float, float], ...]:
        """Name, least and largest value of each metric that has a range: to ask quickly of many."""
        limits = ((metric.name, *metric.limits) for metric in self.metrics)
        return tuple(
            (name, -math.inf if low is None else low, math.inf if high is None else high)
            for name, low, high in limits
            if low is not None or high is not None
        )

    def check_ranges(self, path: Path | str, metrics: Mapping[str, float]) -> None:
        """RecordError, which names `path`, where a number is outside of its metric's range."""
        for metric in self.metrics:
            value = metrics.get(metric.name)
            if value is not None and (problem := metric.out_of_range(value)):
                raise RecordError(f"{path}: {metric.name} {problem}")

    def to_json(self) -> dict[str, Any]:
        """The document that `manifest_from_json` reads, with every key."""
        shared = self.comparability.test_list
        document = {
            "title": self.title,
            "metrics": {each.name: each.to_json() for each in self.metrics},
            "comparability": {
                "recorded": list(self.comparability.recorded),
                "equal_in_a_cell": list(self.comparability.equal_in_a_cell),
                "equal_in_a_pair": list(self.comparability.equal_in_a_pair),
                "test_list": shared
                and {"hash": shared.hash, "decided_by": list(shared.decided_by)},
            },
            "repeats": list(self.repeats),
            "baseline": self.baseline
            and {"label": self.baseline.label, "details": self.baseline.details},
            "bootstrap": self.bootstrap,
            "report": {
                "provenance": list(self.report.provenance),
                "panels_title": self.report.panels_title,
                "panels_show": self.report.panels_show,
                **({"series": asdict(self.report.series)} if self.report.series else {}),
            },
        }
        return document | ({"batch_norm": self.batch_norm} if self.batch_norm else {})


def manifest_from_json(document: Mapping[str, Any]) -> Manifest:
    """The manifest in `document`, of a plan or of a `manifest.yaml`; further keys are ignored.

    KeyError, TypeError or ValueError where it is none.
    """
    baseline = document.get("baseline")
    words = document.get("report") or {}
    return Manifest(
        title=_text(document.get("title", "")),
        metrics=tuple(metric_from_json(name, each) for name, each in document["metrics"].items()),
        comparability=_comparability(document.get("comparability") or {}),
        repeats=_texts(document.get("repeats", ())),
        baseline=baseline
        and Baseline(label=_text(baseline["label"]), details=_text(baseline["details"])),
        bootstrap=_text(document.get("bootstrap", "bootstrap")),
        report=ReportWords(
            provenance=_texts(words.get("provenance", ())),
            panels_title=_text(words.get("panels_title", "")),
            panels_show=_text(words.get("panels_show", "")),
            series=_series(words.get("series")),
        ),
        batch_norm=_condition(document.get("batch_norm", False)),
    )


# A property of a sweep asks for it again for every cell and row.
@lru_cache(maxsize=16)
def default_manifest(metric: str, goal: Goal, unit: str, limits: Range | None = None) -> Manifest:
    """The manifest of a study that has none: of a `command:`, or of an older version's plan."""
    document = json.loads(_DEFAULTS.read_text(encoding="utf-8"))
    return replace(
        manifest_from_json(document),
        metrics=(Metric(name=metric, unit=unit, goal=goal, range=limits),),
    )


def _series(document: Mapping[str, Any] | None) -> Series | None:
    if not document:
        return None
    return Series(**{name: _text(document[name]) for name in ("details", "label", "title")})


def _comparability(document: Mapping[str, Any]) -> Comparability:
    shared = document.get("test_list")
    recorded = _texts(document.get("recorded", ()))
    found = Comparability(
        # Added at the end: the order of `recorded` is the order of keys in a merged view, whose
        # bytes must not depend on this default.
        recorded=tuple(dict.fromkeys((*recorded, *_ALWAYS_RECORDED))),
        equal_in_a_cell=_texts(document.get("equal_in_a_cell", ())),
        equal_in_a_pair=_texts(document.get("equal_in_a_pair", ())),
        test_list=shared
        and SharedTestList(hash=_text(shared["hash"]), decided_by=_texts(shared["decided_by"])),
    )
    compared = (
        *found.equal_in_a_cell,
        *found.equal_in_a_pair,
        *([shared["hash"]] if shared else ()),
    )
    missing = [name for name in compared if name not in found.recorded]
    if missing:
        raise ValueError(f"{missing[0]!r} is compared but not among the `recorded` details")
    return found


def _condition(value: object) -> bool | dict[str, Any]:
    if not isinstance(value, bool | dict):
        raise TypeError(f"batch_norm is {value!r}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _texts(values: Sequence[object]) -> tuple[str, ...]:
    # A string is a sequence of strings, too: `repeats: seed` would become four axes.
    if isinstance(values, str):
        raise TypeError(f"{values!r} is not a list")
    return tuple(_text(value) for value in values)
