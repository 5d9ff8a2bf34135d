"""Curves of runs whose trainer leaves no history: read from the events of their attempts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from merge.records.sweep import Run, Sweep
from merge.storage.json_files import is_finite_number
from merge.storage.paths import RunPaths
from orchestrator.runs.progress import read_tail
from replicate.report.content import EventCurve
from replicate.report.figures import LARGEST_DRAWN

_MOST_BYTES = 4 << 20
"""Of the end of one events.jsonl: a trainer may write an event a step."""
_MOST_POINTS = 400


def read_event_curves(output: Path, sweep: Sweep, runs: Iterable[Run]) -> dict[str, EventCurve]:
    """The curve of each of `runs` whose events have numbers, by run id.

    It is of the study's metric where its events have that, else of their loss; over epochs where
    they say one, else over steps.
    """
    found = {run.run_id: _curve(RunPaths(output / run.path), sweep.metric) for run in runs}
    return {run_id: curve for run_id, curve in found.items() if curve is not None}


def _curve(paths: RunPaths, metric: str) -> EventCurve | None:
    events = list(_events(paths))
    for name in (metric, "loss"):
        for place in ("epoch", "step"):
            # Of several attempts the later one counts where both have been.
            points = dict(_points(events, place, name))
            if len(points) > 1:
                return EventCurve(name=name, over=place, points=_thinned(sorted(points.items())))
    return None


def _points(
    events: Iterable[Mapping[str, Any]], place: str, name: str
) -> Iterator[tuple[float, float]]:
    for event in events:
        where, value = event.get(place), event.get(name)
        if _is_drawable(where) and _is_drawable(value):
            yield where, value


def _is_drawable(value: Any) -> TypeGuard[float]:  # noqa: ANN401 (of a person's JSON)
    return is_finite_number(value) and abs(value) < LARGEST_DRAWN


def _thinned(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    # The last point stays: it is what the result says.
    step = -(-len(points) // _MOST_POINTS)
    return (*points[: len(points) - 1 : step], points[-1])


def _events(paths: RunPaths) -> Iterator[dict[str, Any]]:
    for number in paths.claim_numbers():
        for line in read_tail(paths.attempt(number).events, _MOST_BYTES).splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
