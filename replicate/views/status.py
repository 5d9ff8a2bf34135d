"""The status of an output folder: the merged view and the state of every run, read in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING

from merge.records.sweep import Run
from merge.results.collect import gather
from merge.results.combine import Merged, combine
from merge.results.garbage_collection import no_garbage_collection
from merge.results.unite import Contribution, unite
from merge.storage.paths import SweepPaths
from orchestrator.plan.forecast import Outlook, look_ahead
from orchestrator.runs.states import LIVE_STATES, RunState, State, read_states

if TYPE_CHECKING:
    from orchestrator.bucket_claims.states import BucketState
    from orchestrator.s3.url import BucketTarget


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


def read_status(output: Path, now: float, bucket: BucketTarget | None = None) -> SweepStatus:
    """The status of the sweep in `output` at Unix time `now`; with `bucket` what that tells too.

    IncompleteError where there is no sweep, ConfigChangedError where the bucket holds another.
    """
    far = _read_bucket(bucket, now)
    with no_garbage_collection():
        part, merged = _merged(output, far)
        runs = merged.sweep.runs
        states = _states(output, runs, part, now)
    if far:
        states = [
            _newest(near, far.states.get(run.run_id))
            for run, near in zip(runs, states, strict=True)
        ]
    if SweepPaths(output).submissions.is_dir():
        from orchestrator.slurm.jobs import scheduled_states

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


def _read_bucket(bucket: BucketTarget | None, now: float) -> BucketState | None:
    if bucket is None:
        return None
    from orchestrator.bucket_claims.states import read_bucket_state

    return read_bucket_state(bucket, now)


def _merged(output: Path, far: BucketState | None) -> tuple[Contribution, Merged]:
    """What folder and bucket contribute together, and the view of it."""
    if far is None:
        part = gather(output)
        return part, combine({str(output): part})
    # Any machine may ask a bucket: it needs no folder with the plan.
    near = gather(output, None if SweepPaths(output).sweep.exists() else far.contribution.sweep)
    # Of two results the bucket's counts: it came there first, the other is kept aside.
    entries = {id_: e for id_, e in near.entries.items() if id_ not in far.contribution.entries}
    part = unite({str(output): replace(near, entries=entries), "bucket": far.contribution})
    return part, combine({str(output): part})


def _newest(near: RunState, far: RunState | None) -> RunState:
    """What is true of a run of which this folder says `near` and the bucket `far`."""
    if far is None or near.state is State.DONE or near.state in LIVE_STATES:
        return near
    if near.state is State.CANCELLED and far.state not in (State.DONE, *LIVE_STATES):
        return near
    return far


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
