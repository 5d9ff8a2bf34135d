"""A metric as a manifest declares it: unit, goal, range, and what its value is a mean over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from merge.storage.json_files import is_finite_number

Goal = Literal["max", "min"]

PERCENT = "percent"
"""Unit of a metric that is stored as a fraction in [0, 1] and shown times 100."""
NUMBER = "number"
"""Unit of a metric that is shown as it is stored, without a unit."""

Range = tuple[float | None, float | None]
"""Least and largest value that a metric can have; None for an end that is open."""

_ANY: Range = (None, None)
_FRACTION: Range = (0.0, 1.0)
_ROUNDING = 1e-9
"""Beyond a range by less is a sum of rounded numbers: 1.0000000000000002 is an accuracy."""

_LOWER_TEXT = """
    loss losses error errors err mae mse rmse mape smape medae nll ppl perplexity kl kld wer cer ter
    eer fid kid fvd fad ece mce brier epe rpe ade fde lpips chamfer hausdorff hd95 assd latency ms
    seconds runtime regret cost distance dist divergence deviation residual bpd bpc entropy
    crossentropy fpr fnr fdr
"""
_LOWER_WORDS = frozenset(_LOWER_TEXT.split())
_LOWER_ENDS = ("loss", "error", "perplexity", "entropy", "rmse", "divergence")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanOver:
    """The parts whose mean a metric is, such as the classes of a test set."""

    parts: str
    """What they are called: `classes`."""
    values: str
    """Detail of the reported evaluation: part -> its value, null for one that was not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A value that a model can reach without having learnt anything."""

    value: float
    means: str
    """What it says of the model, as one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number of a result: how it is shown, and which direction is better."""

    name: str
    unit: str = NUMBER
    """`percent`, `number`, or any other text, which is shown beside the name as it is."""
    goal: Goal = "max"
    help: str = ""
    range: Range | None = None
    """As declared; None where it is not."""
    mean_over: MeanOver | None = None
    suspect: Suspect | None = None

    @property
    def limits(self) -> Range:
        """Least and largest possible value: as declared, and of a metric in percent 0 and 1."""
        if self.range is not None:
            return self.range
        return _FRACTION if self.unit == PERCENT else _ANY

    @property
    def width(self) -> float | None:
        """Of its range; None where an end is open."""
        low, high = self.limits
        return None if low is None or high is None else high - low

    def out_of_range(self, value: float) -> str:
        """Why `value` cannot be one of this metric; empty where it can."""
        low, high = self.limits
        if not (
            (low is not None and value < low - _ROUNDING)
            or (high is not None and value > high + _ROUNDING)
        ):
            return ""
        text = f"{value:g} is outside of the metric's range, {range_text(self.limits)}"
        if self.unit != PERCENT or value < 1:
            return text
        return f"{text}: a metric in percent is stored as a fraction, 0.663 for 66.3 %"

    def to_json(self) -> dict[str, Any]:
        """What `metric_from_json` reads; keys that are not declared are left out."""
        document: dict[str, Any] = {"unit": self.unit, "goal": self.goal, "help": self.help}
        if self.range is not None:
            document["range"] = list(self.range)
        if self.mean_over is not None:
            document["mean_over"] = {
                "parts": self.mean_over.parts,
                "values": self.mean_over.values,
            }
        if self.suspect is not None:
            document["suspect"] = {"value": self.suspect.value, "means": self.suspect.means}
        return document


def metric_from_json(name: str, document: Mapping[str, Any]) -> Metric:
    """The metric in `document`. KeyError, TypeError or ValueError where it is none."""
    goal = document.get("goal", "max")
    if goal not in get_args(Goal):
        raise ValueError(f"goal of metric {name} is {goal!r}")
    mean_over, suspect = document.get("mean_over"), document.get("suspect")
    return Metric(
        name=name,
        unit=_text(document.get("unit", NUMBER)),
        goal=goal,
        help=_text(document.get("help", "")),
        range=None if document.get("range") is None else read_range(document["range"]),
        mean_over=mean_over
        and MeanOver(parts=_text(mean_over["parts"]), values=_text(mean_over["values"])),
        suspect=suspect and Suspect(value=_number(suspect["value"]), means=_text(suspect["means"])),
    )


def read_range(value: object) -> Range:
    """The range that `[low, high]` is, null for an open end. ValueError where it is none."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{value!r} is not of the form [low, high], such as [0, 1] or [0, null]")
    low, high = (None if end is None else _number(end) for end in value)
    if low is not None and high is not None and low >= high:
        raise ValueError(f"[{low:g}, {high:g}] has no number in it: write the smaller one first")
    return low, high


def range_text(limits: Range) -> str:
    """`0 to 1`, `at least 0`, `at most 100`, `any number`."""
    low, high = limits
    if low is None:
        return "any number" if high is None else f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def suggests_lower_is_better(name: str) -> bool:
    """Whether a metric called `name` is usually better where it is lower: `val_loss`, `wer`."""
    # `valLoss` and `val-loss` are `val_loss`.
    words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())
    return any(word in _LOWER_WORDS or word.endswith(_LOWER_ENDS) for word in words)


def _number(value: object) -> float:
    if not is_finite_number(value):
        raise ValueError(f"{value!r} is not a number")
    assert isinstance(value, int | float)
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
