"""When a sweep will be done: from what its runs took so far, and how many run at a time. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from merge.records.sweep import Run
from orchestrator.plan.durations import EXPLANATIONS, Estimate, estimate, longest_first
from orchestrator.runs.states import LIVE_STATES, RunState, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is left of a sweep. Hours from now."""

    num_left: int
    """Runs that are neither done nor wait for a person."""
    training_h: float
    """Of all of them together."""
    at_once: int
    """Runs that go on at this moment."""
    done_in_h: float | None
    """Until the last of them is done, if as many go on at a time; None where none goes on."""
    cells_done_in_h: Mapping[str, float]
    """The same by cell, for cells that lack runs."""
    bases: tuple[str, ...]
    """What the durations are taken from."""


def look_ahead(
    runs: Sequence[Run],
    states: Mapping[str, RunState],
    measured_h: Mapping[str, float],
    begun_h: Mapping[str, float] = MappingProxyType({}),
) -> Outlook | None:
    """The outlook for `runs` in `states` (by id).

    `measured_h` are hours of finished runs, `begun_h` what unfinished ones go on from.
    None where nothing is left, or no duration is known. What starts next is the longest, as every
    executor does it.
    """
    live = [run for run in runs if states[run.run_id].state in LIVE_STATES]
    waiting = [run for run in runs if states[run.run_id].state is State.PENDING]
    left = [*live, *waiting]
    if not left:
        return None
    estimates = estimate(runs, measured_h, begun_h)
    # Placeholders of 1 h must not be shown as a forecast.
    if all(estimates[run.run_id].source == "unknown" for run in left):
        return None
    remaining = {run.run_id: _remaining_h(run, states, estimates) for run in left}
    ends = _ends(live, longest_first(waiting, estimates), remaining)
    sources = {estimates[run.run_id].source for run in left}
    return Outlook(
        num_left=len(left),
        training_h=sum(remaining.values()),
        at_once=len(live),
        done_in_h=max(ends.values()) if ends else None,
        cells_done_in_h=_by_cell(left, ends),
        bases=tuple(text for source, text in EXPLANATIONS.items() if source in sources),
    )


def _remaining_h(
    run: Run, states: Mapping[str, RunState], estimates: Mapping[str, Estimate]
) -> float:
    age_s = states[run.run_id].attempt_age_s or 0.0
    is_live = states[run.run_id].state in LIVE_STATES
    # Of a run that goes on elsewhere only the age is known here; of another one that has written
    # no checkpoint yet, too.
    begun = max(estimates[run.run_id].begun_h, age_s / 3600 if is_live else 0.0)
    return max(0.0, estimates[run.run_id].hours - begun)


def _ends(
    live: Sequence[Run], waiting: Sequence[Run], remaining: Mapping[str, float]
) -> dict[str, float]:
    """When each run ends: the next is started where one that goes on has ended."""
    ends = {run.run_id: remaining[run.run_id] for run in live}
    places = list(ends.values())
    heapq.heapify(places)
    if places:
        for run in waiting:
            ends[run.run_id] = places[0] + remaining[run.run_id]
            heapq.heapreplace(places, ends[run.run_id])
    return ends


def _by_cell(runs: Sequence[Run], ends: Mapping[str, float]) -> dict[str, float]:
    cells: dict[str, float] = {}
    for run in runs:
        if run.run_id in ends:
            cells[run.cell] = max(cells.get(run.cell, 0.0), ends[run.run_id])
    return cells
