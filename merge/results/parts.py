"""Numbers over a part of what they are a mean over, and numbers that say that nothing was learnt.

A mean over 3 of 5 classes is another number than the mean over all. What a metric is a mean over,
and which of its values is suspect, the manifest of the experiment says. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from merge.records.manifest import Manifest
from merge.records.metrics import Metric
from merge.results.entries import PARTS, Entry

PARTS_KEY = "parts"
"""Of a cell: value of the averaged axis -> metric -> how much of it was counted."""
REMARKS_KEY = "remarks"

_RATIO = re.compile(r"iou|acc|dice|auc|precision|recall", re.IGNORECASE)

Parts = Mapping[str, Any]
"""`{"counted": 3, "of": 5, "missing": ["4", "9"], "text": "3/5 classes"}`."""


def parts_of_cell(done: Mapping[str, Entry], manifest: Manifest) -> dict[str, dict[str, Parts]]:
    """What the runs of a cell, by their value of the averaged axis, count only in part."""
    found = {}
    for name, entry in done.items():
        parts = entry.measured.get(PARTS)
        if parts:
            found[name] = {
                metric: _with_text(metric, part, manifest) for metric, part in parts.items()
            }
    return found


def parts_flags(
    parts: Mapping[str, Mapping[str, Parts]], manifest: Manifest
) -> list[dict[str, Any]]:
    """A flag for each metric that some run counts only in part."""
    flags = []
    for metric in dict.fromkeys(name for one in parts.values() for name in one):
        runs: dict[str, list[str]] = {}
        for name, one in parts.items():
            if metric in one:
                runs.setdefault(one[metric]["text"], []).append(name)
        says = f"{metric} is a mean over a part of the {_word(metric, manifest)}"
        flags.append(
            {"differs": f"parts.{metric}", "kind": "not whole", "says": says, "runs": runs}
        )
    return flags


def unit_flags(counted: Mapping[str, Entry], metric: Metric) -> list[dict[str, Any]]:
    """A flag where a ratio is stored as percent by one run of a cell and as a fraction by another.

    Only for a metric without a declared range, which refuses one of the two.
    """
    if metric.limits[1] is not None or not _RATIO.search(metric.name):
        return []
    values = {name: entry.metrics[metric.name] for name, entry in counted.items()}
    percent = [name for name, value in values.items() if 1 < value <= 100]
    fraction = [name for name, value in values.items() if 0 < value <= 1]
    if not (percent and fraction):
        return []
    says = f"{metric.name} looks like percent in some runs and like a fraction in others"
    return [
        {
            "differs": f"unit of {metric.name}",
            "says": f"{says}; declare its range, such as [0, 1]",
            "runs": {"above 1": percent, "at most 1": fraction},
        }
    ]


def part_text(view: Mapping[str, Any], name: str, metric: str) -> str:
    """`3/5 classes` where the number of `name` in a cell's `view` is over a part; else empty."""
    return str(view.get(PARTS_KEY, {}).get(name, {}).get(metric, {}).get("text", ""))


def part_of_mean(view: Mapping[str, Any], metric: str) -> str:
    """As `part_text`, for the mean of a cell: of the run that counts least."""
    of_metric = [one[metric] for one in view.get(PARTS_KEY, {}).values() if metric in one]
    if not of_metric:
        return ""
    return str(min(of_metric, key=lambda part: part["counted"] / part["of"])["text"])


def is_over_same_values(counted: Collection[str], published: Mapping[Any, float]) -> bool:
    """Whether a mean over the values `counted` of an axis is one over those of a published mean.

    True where nothing says which those are: with fewer than two published numbers beside the mean.
    """
    values = {str(key) for key in published} - {"mean"}
    return len(values) < 2 or values == set(counted)


def with_part(text: str, part: str) -> str:
    """A number, and beside it how much of what it is a mean over counts: `49.8 (3/5 classes)`."""
    return f"{text} ({part})" if part else text


def remarks_of_cell(done: Mapping[str, Entry], manifest: Manifest, axis: str) -> list[str]:
    """A line for each metric with a value that says that nothing was learnt."""
    lines = []
    for metric in manifest.metrics:
        suspect = metric.suspect
        if suspect is None:
            continue
        names = [n for n, entry in done.items() if entry.metrics.get(metric.name) == suspect.value]
        if names:
            lines.append(
                f"{metric.name} is {suspect.value:g} for {axis} {', '.join(names)}: {suspect.means}"
            )
    return lines


def part_of_entry(entry: Entry, metric: str, manifest: Manifest) -> str:
    """`3/5 classes (without 4, 9)` where the run counts only a part; else empty."""
    part = entry.measured.get(PARTS, {}).get(metric)
    if not part:
        return ""
    missing = ", ".join(map(str, part["missing"]))
    return f"{_with_text(metric, part, manifest)['text']} (without {missing})"


def _with_text(metric: str, part: Parts, manifest: Manifest) -> Parts:
    return {**part, "text": f"{part['counted']}/{part['of']} {_word(metric, manifest)}"}


def _word(metric: str, manifest: Manifest) -> str:
    declared = manifest.metric(metric).mean_over
    return declared.parts if declared else "parts"
