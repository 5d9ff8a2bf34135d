"""The status of an output folder: the merged view and the state of every run, read in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from merge.collect import gather
from merge.combine import Merged, combine
from merge.garbage import no_garbage_collection
from merge.paths import SweepPaths
from merge.sweep import Run
from merge.unite import Contribution
from orchestrator.outlook import Outlook, look_ahead
from orchestrator.states import RunState, State, read_states


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """One run and its state."""

    run: Run
    state: RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepStatus:
    """An output folder at one moment."""

    merged: Merged
    """Made in memory: reading a status leaves nothing written."""
    runs: tuple[RunStatus, ...]
    """The table's runs, and the others that were begun."""
    outlook: Outlook | None
    """When they will be done, where that can be told."""


def read_status(output: Path, now: float) -> SweepStatus:
    """The status of the sweep in `output` at Unix time `now`. IncompleteError where none is."""
    with no_garbage_collection():
        part = gather(output)
        merged = combine({str(output): part})
        runs = merged.sweep.runs
        states = _states(output, runs, part, now)
    if SweepPaths(output).submissions.is_dir():
        from orchestrator.slurm_sent import scheduled_states

        states = scheduled_states(output, runs, states)
    begun_cells = {
        run.cell
        for run, state in zip(runs, states, strict=True)
        if state.state is not State.PENDING
    }
    shown = tuple(
        RunStatus(run=run, state=state)
        for run, state in zip(runs, states, strict=True)
        if run.in_table or run.cell in begun_cells
    )
    return SweepStatus(merged=merged, runs=shown, outlook=_outlook(shown, part))


def _outlook(shown: Sequence[RunStatus], part: Contribution) -> Outlook | None:
    measured_h = {
        run_id: (entries[0].finished - entries[0].started) / 3600
        for run_id, entries in part.entries.items()
    }
    states = {entry.run.run_id: entry.state for entry in shown}
    return look_ahead([entry.run for entry in shown], states, measured_h)


def _states(output: Path, runs: Sequence[Run], part: Contribution, now: float) -> list[RunState]:
    is_open = [run.run_id not in part.entries for run in runs]
    states = iter(read_states(output, [*compress(runs, is_open)], now))
    return [next(states) if one else RunState(state=State.DONE) for one in is_open]
