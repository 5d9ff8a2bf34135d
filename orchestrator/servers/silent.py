"""Workers that seem silent when runs are cancelled: killed only once their silence is observed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from merge.errors import RecordError
from merge.records.records import Owner, read_worker
from merge.records.sweep import Run, read_sweep
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.paths import SweepPaths
from orchestrator.plan.selection import choose
from orchestrator.runs.claims import last_claim
from orchestrator.servers.control import send_signal
from orchestrator.servers.ssh import in_parallel
from orchestrator.servers.workers import Worker, WorkerState, read_workers, worker_state

_LOOK_EVERY_S = 0.5


def cancel_jobs(output: Path, run_ids: Sequence[str], clock: Clock = SYSTEM_CLOCK) -> list[str]:
    """Kill the silent workers on servers that still claim one of these runs; a line for each.

    All other workers need no ssh: a living worker reads the request to cancel in the run's folder.
    Nothing that is done gets lost: the other runs of a killed worker resume from checkpoints.

    An old time in a record may come from a wrong clock. So a worker whose process runs is watched
    from here until its heartbeat changes, and killed only if that does not happen within its
    expiry.
    """
    owners = {_claim_owner(output, run) for run in _runs(output, run_ids)}
    silent = [
        worker
        for worker in read_workers(output)
        if worker_state(worker) is WorkerState.SILENT
        and worker.record
        and worker.record.owner in owners
    ]
    return in_parallel(lambda worker: _end(worker, clock), silent)


def _end(worker: Worker, clock: Clock) -> str:
    """Kill the process of `worker` if it is silent; a line about what was done."""
    process = send_signal(worker, "")
    if process == "running" and _has_heartbeat(worker, clock):
        return f"{worker.name}: its worker is alive and reads the request"
    if process == "gone":
        return f"{worker.name}: its worker was silent, and its process is gone"
    answer = send_signal(worker, "KILL") if process in ("running", "stopped") else process
    if answer == "signalled":
        return f"{worker.name}: its worker was silent and was killed"
    return f"{worker.name}: its worker was silent and could not be killed: {answer}"


def _has_heartbeat(worker: Worker, clock: Clock) -> bool:
    """Whether the record of `worker` changes before its expiry is over, by the clock here."""
    path, record = worker.record_path, worker.record
    assert path is not None, "a silent worker's record was read from this folder"
    assert record is not None
    deadline = clock.monotonic() + record.expiry_s
    while clock.monotonic() < deadline:
        clock.sleep(_LOOK_EVERY_S)
        with suppress(RecordError, FileNotFoundError):
            # Only a change counts, not to what: the owner's clock may have been set back.
            if read_worker(path).heartbeat != record.heartbeat:
                return True
    return False


def _runs(output: Path, run_ids: Sequence[str]) -> tuple[Run, ...]:
    return choose(read_sweep(SweepPaths(output).sweep).runs, run_ids)


def _claim_owner(output: Path, run: Run) -> Owner | None:
    last = last_claim(SweepPaths(output).run(run.path))
    return None if last is None or last.released else last.owner
