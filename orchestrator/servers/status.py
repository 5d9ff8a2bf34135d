"""The workers on servers as data, for `orchestrator/status.py`: from their records, or over ssh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.machine.owners import this_owner
from orchestrator.servers.workers import Worker, WorkerState, read_workers, worker_state

_HINTS = {
    WorkerState.SILENT: "dead, suspended or cut off: `replicate status --reach` asks it",
    WorkerState.NOT_STARTED: "it has left no record: see its log",
    WorkerState.NOT_ASKED: "its folder is its own: `replicate status --reach` asks it",
}

_ENDS = {
    None: "its process is gone",
    1: "some of its runs failed: see above",
    3: "some of its runs are not done",
    75: "the file system refused: see its log",
}
"""The meaning of a worker's exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """A worker that was submitted to a server."""

    submission: str
    server: str
    condition: str
    """As its record says, without asking the server."""
    reached: str | None
    """What the server answered, or why it could not be asked; None where it was not asked."""
    host: str | None
    pid: int | None
    heartbeat_age_s: float | None
    num_runs: int
    claims: str | None
    """The place in a bucket through which it shares its runs; None: the output folder."""
    log: str
    reason: str
    """Why it ended, or what to do about it; empty where there is nothing to say."""


def read_servers(output: Path, *, asks_servers: bool = False) -> tuple[ServerStatus, ...]:
    """The workers of the last submission, and older ones that have not ended."""
    workers = {_key(worker): (worker, "") for worker in read_workers(output)}
    if asks_servers:
        workers |= _asked([worker for worker, _ in workers.values()])
    here = this_owner()
    last = max((submission for submission, _ in workers), default="")
    found = [(worker, worker_state(worker, here), said) for worker, said in workers.values()]
    return tuple(
        _status(worker, state, said or None)
        for worker, state, said in found
        if worker.submission == last or state in (WorkerState.AT_WORK, WorkerState.SILENT)
    )


def _key(worker: Worker) -> tuple[str, str]:
    return worker.submission, worker.name


def _asked(workers: list[Worker]) -> dict[tuple[str, str], tuple[Worker, str]]:
    from orchestrator.servers.control import query_workers

    return {_key(each.worker): (each.worker, each.process) for each in query_workers(workers)}


def _status(worker: Worker, state: WorkerState, reached: str | None) -> ServerStatus:
    record = worker.record
    reason = worker.problem or (record.reason if record else "")
    if state is WorkerState.FAILED and record:
        reason = reason or _ENDS.get(record.exit_code, f"exit code {record.exit_code}")
    return ServerStatus(
        submission=worker.submission,
        server=worker.name,
        condition=state.value,
        reached=reached,
        host=record.owner.host if record else None,
        pid=record.owner.pid if record else None,
        heartbeat_age_s=worker.silence_s,
        num_runs=worker.num_runs,
        claims=worker.claims,
        log=f"{worker.name}:{worker.log}" if worker.claims else str(worker.log),
        reason=reason or ("" if reached else _HINTS.get(state, "")),
    )
