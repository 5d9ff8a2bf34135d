"""The servers of a sweep, as `status` shows them: from their own records, or asked over ssh."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.machine.owners import this_owner
from orchestrator.servers.workers import Worker, WorkerState, read_workers, worker_state
from replicate.views.table import align

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
"""What a worker's exit code stands for."""


def server_documents(output: Path, *, reach: bool) -> list[dict[str, Any]]:
    """Every worker of the last submission to servers, and older ones that have not ended."""
    said = {_key(worker): (worker, "") for worker in read_workers(output)}
    if reach:
        said |= _reached([worker for worker, _ in said.values()])
    # After the answers: some of them are newer than the question.
    now, here = time.time(), this_owner()
    last = max((submission for submission, _ in said), default="")
    found = [(worker, worker_state(worker, now, here), word) for worker, word in said.values()]
    return [
        _document(worker, state, now, word or None)
        for worker, state, word in found
        if worker.submission == last or state in (WorkerState.AT_WORK, WorkerState.SILENT)
    ]


def server_lines(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """The documents as a table; empty where no submission went to servers."""
    if not documents:
        return []
    rows = [["server", "worker", "sign of life", "runs given", "log", ""]]
    rows += [
        [
            each["server"],
            each["reached"] or each["condition"],
            "-" if each["heartbeat_age_s"] is None else f"{each['heartbeat_age_s']:.0f} s ago",
            str(each["num_runs"]),
            each["log"],
            each["reason"],
        ]
        for each in documents
    ]
    return align(rows, left=6)


def _key(worker: Worker) -> tuple[str, str]:
    return worker.submission, worker.name


def _reached(workers: list[Worker]) -> dict[tuple[str, str], tuple[Worker, str]]:
    from orchestrator.servers.control import query_workers

    return {_key(each.worker): (each.worker, each.process) for each in query_workers(workers)}


def _document(
    worker: Worker, state: WorkerState, now: float, reached: str | None
) -> dict[str, Any]:
    record = worker.record
    reason = worker.problem or (record.reason if record else "")
    if state is WorkerState.FAILED and record:
        reason = reason or _ENDS.get(record.exit_code, f"exit code {record.exit_code}")
    return {
        "submission": worker.submission,
        "server": worker.name,
        "condition": state.value,
        "reached": reached,
        "host": record.owner.host if record else None,
        "pid": record.owner.pid if record else None,
        "heartbeat_age_s": now - record.heartbeat if record else None,
        "num_runs": worker.num_runs,
        "claims": worker.claims,
        "log": f"{worker.name}:{worker.log}" if worker.claims else str(worker.log),
        "reason": reason or ("" if reached else _HINTS.get(state, "")),
    }
