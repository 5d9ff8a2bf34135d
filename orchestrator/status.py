"""The state of a sweep as data: what `status` prints and what a dashboard or a notice may read.

Reads only. All of it is derived at each call from the files of the output folder, and where asked
from a bucket, from SLURM's queue and from the servers; nothing of it is stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
from orchestrator.plan.durations import begun_h, finished_h
from orchestrator.plan.forecast import Outlook, look_ahead
from orchestrator.runs.states import LIVE_STATES, RunState, State, read_states

if TYPE_CHECKING:
    from orchestrator.bucket_claims.states import BucketState
    from orchestrator.s3.url import BucketTarget
    from orchestrator.servers.status import ServerStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """One run and its state."""

    run: Run
    state: RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStatus:
    """One cell of the table: how many of its runs are in which state."""

    cell: str
    counts: Mapping[State, int]

    @property
    def is_complete(self) -> bool:
        return set(self.counts) == {State.DONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A job that was sent to SLURM; the states of its runs say how far it is."""

    submission: str
    name: str
    job_id: str | None
    """None where SLURM's answer is not recorded: it may have the job or not."""
    num_tasks: int
    num_runs: int
    created: float
    """Unix time of the submission, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SweepStatus:
    """A sweep at one moment."""

    merged: Merged
    """The merged view, made in memory: reading a status writes nothing."""
    runs: tuple[RunStatus, ...]
    """The runs of the table, and all of the other cells that were begun."""
    outlook: Outlook | None
    """When they will be done; None where nothing is left or no duration is known."""
    servers: tuple[ServerStatus, ...] = ()
    """The workers of the last submission to servers, and older ones that have not ended."""
    jobs: tuple[JobStatus, ...] = ()
    """The jobs of all submissions to SLURM, oldest first."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.counts[state]} {state}" for state in State if self.counts[state])
        return f"<SweepStatus of study {self.merged.sweep.study!r}: {counts}>"

    @property
    def counts(self) -> Counter[State]:
        """How many runs are in each state."""
        return Counter(entry.state.state for entry in self.runs)

    @property
    def cells(self) -> tuple[CellStatus, ...]:
        """The cells of `runs`, in the order of the plan."""
        found: dict[str, Counter[State]] = {}
        for entry in self.runs:
            found.setdefault(entry.run.cell, Counter())[entry.state.state] += 1
        return tuple(CellStatus(cell=cell, counts=counts) for cell, counts in found.items())


def read_status(
    output: Path,
    now: float,
    bucket: BucketTarget | None = None,
    *,
    asks_servers: bool = False,
    has_sources: bool = True,
) -> SweepStatus:
    """The status of the sweep in `output` at Unix time `now`.

    With `bucket` also what that place knows of runs that hosts share through it. With
    `asks_servers` each server of a submission is asked over ssh. `has_sources` says whether the
    merged document has the plan and every single result too (`merge.results.combine`).
    IncompleteError where there is no sweep, ConfigChangedError where the bucket holds another one.
    """
    with no_garbage_collection():
        return _read_status(output, now, bucket, asks_servers=asks_servers, has_sources=has_sources)


def _read_status(
    output: Path,
    now: float,
    bucket: BucketTarget | None,
    *,
    asks_servers: bool,
    has_sources: bool,
) -> SweepStatus:
    far = _read_bucket(bucket, now)
    part = _contribution(output, far)
    merged = combine({str(output): part}, has_sources=has_sources)
    runs = merged.sweep.runs
    states = _states(output, runs, part, now)
    if far:
        states = [
            _newest(near, far.states.get(run.run_id))
            for run, near in zip(runs, states, strict=True)
        ]
    servers: tuple[ServerStatus, ...] = ()
    jobs: tuple[JobStatus, ...] = ()
    if SweepPaths(output).submissions.is_dir():
        from orchestrator.servers.status import read_servers
        from orchestrator.slurm.jobs import scheduled_states

        states = scheduled_states(output, runs, states)
        jobs = _jobs(output)
        servers = read_servers(output, asks_servers=asks_servers)
    shown = _shown(runs, states)
    outlook = _outlook(output, shown, part)
    return SweepStatus(merged=merged, runs=shown, outlook=outlook, servers=servers, jobs=jobs)


def _shown(runs: Sequence[Run], states: Sequence[RunState]) -> tuple[RunStatus, ...]:
    pairs = list(zip(runs, states, strict=True))
    begun = {run.cell for run, state in pairs if state.state is not State.PENDING}
    return tuple(
        RunStatus(run=run, state=state) for run, state in pairs if run.in_table or run.cell in begun
    )


def _read_bucket(bucket: BucketTarget | None, now: float) -> BucketState | None:
    if bucket is None:
        return None
    from orchestrator.bucket_claims.states import read_bucket_state

    return read_bucket_state(bucket, now)


def _contribution(output: Path, far: BucketState | None) -> Contribution:
    """What folder and bucket contribute together to the merged view."""
    if far is None:
        return gather(output)
    # Any machine may ask a bucket: it needs no folder with the plan.
    near = gather(output, None if SweepPaths(output).sweep.exists() else far.contribution.sweep)
    # Of two results of a run the bucket's counts: it was there first, the other is kept aside.
    entries = {id_: e for id_, e in near.entries.items() if id_ not in far.contribution.entries}
    return unite({str(output): replace(near, entries=entries), "bucket": far.contribution})


def _newest(near: RunState, far: RunState | None) -> RunState:
    """The state of a run for which this folder says `near` and the bucket `far`."""
    if far is None or near.state is State.DONE or near.state in LIVE_STATES:
        return near
    if near.state is State.CANCELLED and far.state not in (State.DONE, *LIVE_STATES):
        return near
    return far


def _outlook(output: Path, shown: Sequence[RunStatus], part: Contribution) -> Outlook | None:
    runs = [entry.run for entry in shown]
    states = {entry.run.run_id: entry.state for entry in shown}
    took = {
        run.run_id: finished_h(output, run, part.entries[run.run_id][0])
        for run in runs
        if run.run_id in part.entries
    }
    measured_h = {run_id: hours for run_id, hours in took.items() if hours is not None}
    # Only runs that were begun: thousands of others have no file to read.
    begun = [
        run
        for run in runs
        if run.run_id not in part.entries and states[run.run_id].attempt is not None
    ]
    return look_ahead(runs, states, measured_h, begun_h(output, begun))


def _states(output: Path, runs: Sequence[Run], part: Contribution, now: float) -> list[RunState]:
    is_open = [run.run_id not in part.entries for run in runs]
    states = iter(read_states(output, [*compress(runs, is_open)], now))
    done = RunState(state=State.DONE)
    # A result that is there and cannot be counted needs a person: it is not done.
    reasons = {problem.run_id: problem.reason for problem in part.problems}
    found = [next(states) if one else done for one in is_open]
    return [
        RunState(state=State.UNKNOWN, reason=reasons[run.run_id])
        if one and state.state is State.DONE and run.run_id in reasons
        else state
        for run, one, state in zip(runs, is_open, found, strict=True)
    ]


def _jobs(output: Path) -> tuple[JobStatus, ...]:
    from orchestrator.slurm.record import read_submissions

    return tuple(
        JobStatus(
            submission=one.id,
            name=array.name,
            job_id=array.job_id,
            num_tasks=len(array.tasks),
            num_runs=sum(len(task) for task in array.tasks),
            created=one.created,
        )
        for one in read_submissions(output)
        for array in (*one.arrays, *([one.merge] if one.merge else []))
    )
