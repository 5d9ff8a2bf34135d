"""The local executor: runs a sweep's runs on this machine's devices."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from merge.records.sweep import Run, Sweep
from merge.storage.paths import SweepPaths
from orchestrator.local.attempt import ExecutorContext
from orchestrator.local.events import LocalReport, RunEvent
from orchestrator.local.messages import CancelRequested, ClaimLost, GuardDied, Inbox, StopRequested
from orchestrator.local.outcomes import OutcomeLog
from orchestrator.local.schedule import Schedule
from orchestrator.local.settings import LocalSettings
from orchestrator.machine.devices import check_fit
from orchestrator.machine.environment import describe_environment
from orchestrator.machine.guard import EXECUTOR, kill_marked
from orchestrator.machine.process import Guardian
from orchestrator.machine.signals import stop_requests
from orchestrator.runs.heartbeat import Heartbeat
from orchestrator.runs.heartbeat_watch import HeartbeatWatch

__all__ = ["LocalReport", "LocalSettings", "run_local"]


def run_local(
    sweep: Sweep,
    runs: Sequence[Run],
    output: Path,
    settings: LocalSettings,
    publish: Callable[[RunEvent], object],
) -> LocalReport:
    """Run `runs` of `sweep` in the folder `output`, as many at a time as the devices allow.

    Finished runs are skipped; a failed run stops no other and is retried as the settings say; a
    cancelled one is stopped, or not started. The first Ctrl-C (SIGTERM, hang-up) makes the trainers
    write their checkpoints, the second kills them. No trainer outlives this call.

    `publish` gets every event, from this thread. An exception of it ends the sweep: give
    `Listeners.publish` unless that is wanted. UsageError where the devices cannot serve the runs.
    """
    check_fit(settings.devices, runs)
    marker = secrets.token_hex(16)
    inbox: Inbox = Inbox()
    now = settings.clock.monotonic
    with stop_requests(lambda cause: inbox.put(StopRequested(cause, now()))):
        # The guard starts before any trainer, so that no instant exists at which a SIGKILL of this
        # process leaves one behind.
        guardian = Guardian(marker, lambda: inbox.put(GuardDied()))
        try:
            with _heartbeat(settings, inbox) as heartbeat:
                context = _executor_context(sweep, output, settings, marker, heartbeat)
                outcomes = OutcomeLog(sweep.metric, publish)
                return Schedule(context, outcomes, inbox, guardian).run(runs)
        finally:
            # A trainer may have started processes that left its group; the marker in their
            # environment still finds them.
            kill_marked(EXECUTOR, marker)
            guardian.close()


def _heartbeat(settings: LocalSettings, inbox: Inbox) -> Heartbeat:
    return Heartbeat(
        settings.heartbeat_s,
        on_lost=lambda token: inbox.put(ClaimLost(token)),
        on_cancelled=lambda token: inbox.put(CancelRequested(token)),
        claims=settings.claims,
        clock=settings.clock,
    )


def _executor_context(
    sweep: Sweep, output: Path, settings: LocalSettings, marker: str, heartbeat: Heartbeat
) -> ExecutorContext:
    has_gpus = settings.devices.kind == "cuda"
    return ExecutorContext(
        sweep=sweep,
        output=SweepPaths(output.resolve()),
        settings=settings,
        marker=marker,
        heartbeat=heartbeat,
        watch=HeartbeatWatch(settings.clock),
        environment=describe_environment(settings.cwd, os.environ, has_gpus=has_gpus),
    )
