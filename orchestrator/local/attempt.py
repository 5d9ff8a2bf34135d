"""One execution of a run: claim, spec, record, process; then verdict, commit, release."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from merge.errors import RecordError, StorageError
from merge.records.config_hash import hash_problem
from merge.records.records import AttemptRecord, Cause, Claim, Request
from merge.records.sweep import Run, Sweep
from merge.storage.clock import Clock
from merge.storage.json_files import write_json
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.local.first_record import first_record
from orchestrator.local.settings import LocalSettings
from orchestrator.local.spec import attempt_spec, ensure_spec
from orchestrator.local.start_process import free_port, start_process
from orchestrator.machine.cores import num_threads
from orchestrator.machine.devices import device_kind
from orchestrator.machine.launch import Assignment, build_launch
from orchestrator.machine.oom_kills import num_oom_kills
from orchestrator.machine.process import Process
from orchestrator.machine.trainer_python import Known
from orchestrator.runs.claims import Busy, Finished, Taken
from orchestrator.runs.heartbeat import Heartbeat
from orchestrator.runs.heartbeat_watch import HeartbeatWatch
from orchestrator.runs.progress import Progress
from orchestrator.runs.requests import cancellation, counted_attempts
from orchestrator.runs.retries import MemorySettings, deviations, next_memory, planned_memory
from orchestrator.runs.stall import Silence

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorContext:
    """What all attempts of one executor share."""

    sweep: Sweep
    output: SweepPaths
    settings: LocalSettings
    marker: str
    """Identifies the executor in the environment of all its processes."""
    heartbeat: Heartbeat
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Host, versions and settings that every attempt records."""
    watch: HeartbeatWatch = field(default_factory=HeartbeatWatch)
    known_pythons: Known = field(default_factory=dict)
    """What the Pythons of commands answered about themselves."""

    @property
    def clock(self) -> Clock:
        return self.settings.clock


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A request holds that the run is not started anywhere."""

    request: Request


@dataclass(frozen=True, slots=True)
class NotWorthTrying:
    """The run has failed elsewhere, as often as its retry rules allow."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The system gave no process for the attempt, which has failed."""

    paths: RunPaths
    record: AttemptRecord


@dataclass(slots=True, kw_only=True)
class Attempt:
    """A running execution of a run."""

    run: Run
    paths: RunPaths
    claim: Claim
    record: AttemptRecord
    process: Process
    silence: Silence
    clock: Clock
    num_oom_kills: int
    """The kernel's count at the start: a higher one at the end means a kill for memory."""
    stop_cause: Cause | None = None
    """Why it was asked to stop, or killed; None where it was not."""
    kill_at: float = math.inf
    """Monotonic time at which it is killed, if it has not stopped by then."""
    has_lost_claim: bool = False
    shown: Progress | None = None
    """The progress that was published last."""

    def stop(self, cause: Cause, grace_s: float) -> None:
        """Make it write a checkpoint and end; `tick` kills it after `grace_s` seconds."""
        self.stop_cause = self.stop_cause or cause
        self.kill_at = min(self.kill_at, self.clock.monotonic() + grace_s)
        self._ask_to_stop()

    def kill(self, cause: Cause) -> None:
        """SIGKILL it at once."""
        self.stop_cause = self.stop_cause or cause
        self._kill()

    def tick(self) -> None:
        """Continue a `stop`: signal workers that were started since, kill them when it is time."""
        if self.kill_at < math.inf:
            self._ask_to_stop()
        if self.clock.monotonic() > self.kill_at:
            self._kill()

    def end_stalled(self, limit_s: float | None) -> None:
        """Kill it where it has written nothing for `limit_s` seconds; None: never."""
        if limit_s is None or self.stop_cause is not None:
            return
        if self.silence.seconds() > limit_s:
            self.kill(Cause.STALLED)

    def _kill(self) -> None:
        try:
            self.process.kill()
        except OSError as error:
            # A command that runs as another user (sudo) must not keep others from being stopped.
            _log.warning("%s cannot be killed: %s", self.run.run_id, error)

    def _ask_to_stop(self) -> None:
        try:
            self.process.ask_to_stop()
        except (StorageError, OSError) as error:
            # `tick` repeats it: what cannot be asked now must end neither this run nor the others.
            _log.debug("%s cannot be asked to stop now: %s", self.run.run_id, error)


Begun = Attempt | Busy | Finished | Cancelled | NotWorthTrying | NotStarted
"""What can become of the start of a run."""


def begin(
    context: ExecutorContext,
    run: Run,
    devices: tuple[str, ...],
    on_exit: Callable[[str], None],
    failure_of: Callable[[Run], str | None] = lambda _: None,
) -> Begun:
    """Claim `run` and start it on `devices`, unless it is finished, cancelled or has a live owner.

    `failure_of` is asked once the run is claimed: why it is not to be started. `on_exit(token)` is
    called from a thread when its command has ended. RecordError where a record of the run is not of
    this plan, StorageError, UsageError where it cannot be started.
    """
    paths = context.output.run(run.path)
    if problem := hash_problem(run, context.sweep):
        raise RecordError(problem, path=context.output.sweep)
    if request := cancellation(paths):
        return Cancelled(request)
    ensure_spec(paths, run.to_spec(context.sweep), context.sweep.free_keys)
    taking = _take(context, run, paths)
    if not isinstance(taking, Taken):
        return taking
    # Before anything that may take long: without a heartbeat another host takes the run over after
    # its expiry.
    context.heartbeat.hold(paths, taking.claim)
    try:
        begun = _obstacle(run, paths, failure_of) or _start(
            context, run, devices, taking.claim, on_exit
        )
    # KeyboardInterrupt too: a claim that is not released keeps other hosts waiting for its expiry.
    except BaseException:
        context.heartbeat.let_go(taking.claim.token)
        raise
    if not isinstance(begun, Attempt):
        context.heartbeat.let_go(taking.claim.token)
    return begun


def _take(context: ExecutorContext, run: Run, paths: RunPaths) -> Taken | Busy | Finished:
    settings = context.settings
    return settings.claims.take(
        paths,
        run.config_hash,
        settings.owner,
        now=context.clock.now(),
        expiry_s=settings.expiry_s,
        watch=context.watch,
    )


def _obstacle(
    run: Run, paths: RunPaths, failure_of: Callable[[Run], str | None]
) -> Cancelled | NotWorthTrying | None:
    """Why a run that was just claimed is not to be started."""
    # A listing of the folder is fresh on every file system now that the claim was written.
    if request := cancellation(paths):
        return Cancelled(request)
    reason = failure_of(run)
    return NotWorthTrying(reason) if reason else None


def _start(
    context: ExecutorContext,
    run: Run,
    devices: tuple[str, ...],
    claim: Claim,
    on_exit: Callable[[str], None],
) -> Attempt | NotStarted:
    paths = context.output.run(run.path)
    counted, planned = counted_attempts(paths), planned_memory(run)
    memory = next_memory(counted, planned)
    assignment = _assignment(context, run, devices, claim, memory)
    launch = build_launch(run, assignment, os.environ)
    changes = deviations(counted, planned)
    record = first_record(context, run, assignment, launch, memory, changes)
    files = paths.attempt(claim.number)
    # Before the process: an attempt whose executor is killed now is still found, as lost.
    write_json(files.record, record.to_json())
    # Before the process too: it may be killed for memory at once.
    oom_kills, silence = num_oom_kills(), Silence(files, context.clock)
    process = start_process(launch, files, record, on_exit, context.clock)
    if isinstance(process, AttemptRecord):
        return NotStarted(paths, process)
    return Attempt(
        run=run,
        paths=paths,
        claim=claim,
        record=record,
        process=process,
        silence=silence,
        clock=context.clock,
        num_oom_kills=oom_kills,
    )


def _assignment(
    context: ExecutorContext,
    run: Run,
    devices: tuple[str, ...],
    claim: Claim,
    memory: MemorySettings,
) -> Assignment:
    settings = context.settings
    is_planned = memory.micro_batch == planned_memory(run).micro_batch
    return Assignment(
        paths=context.output.run(run.path),
        number=claim.number,
        token=claim.token,
        executor=context.marker,
        kind=device_kind(run, settings.devices),
        devices=devices,
        port=free_port(),
        cwd=settings.cwd,
        cache_dir=settings.cache_dir,
        data_root=settings.data_root,
        weights=settings.weights,
        threads=num_threads() if settings.devices.kind == "cuda" else None,
        nodes=settings.nodes,
        spec=attempt_spec(context.output.run(run.path), claim.number, run.to_spec(context.sweep)),
        num_workers=memory.num_workers,
        # Given only where it differs from the plan (docs/run-contract.md).
        micro_batch=None if is_planned else memory.micro_batch,
        source=settings.source,
    )
