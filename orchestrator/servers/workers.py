"""Workers on servers, from their own records: without any network request."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from merge.errors import INTERRUPTED_EXIT_CODE, RecordError, StorageError, UsageError
from merge.records.records import Owner, WorkerRecord, read_worker
from merge.records.submissions import list_submissions, read_submission_document
from merge.storage.clock import SYSTEM_CLOCK
from merge.storage.control_paths import SubmissionPaths
from merge.storage.nfs import clock_of
from merge.storage.paths import SweepPaths
from orchestrator.config.shell import quote
from orchestrator.machine.owners import owner_alive
from orchestrator.runs.stall import modified


class WorkerState(StrEnum):
    """What is known about a worker without a request to its server."""

    NOT_STARTED = "not started"
    NOT_ASKED = "not asked"
    """Its record lies on its own server, which no command has asked yet."""
    AT_WORK = "at work"
    SILENT = "silent"
    """No heartbeat: it is dead, suspended, or cut off from the shared folder."""
    FINISHED = "finished"
    STOPPED = "stopped"
    """On request."""
    FAILED = "failed"
    UNKNOWN = "unknown"


_STATE_OF_EXIT: dict[int | None, WorkerState] = {
    0: WorkerState.FINISHED,
    INTERRUPTED_EXIT_CODE: WorkerState.STOPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker, from its submission and its own record."""

    submission: str
    name: str
    ssh: str
    log: Path
    ssh_config: Path | None = None
    connect_timeout_s: int = 15
    num_runs: int = 0
    record: WorkerRecord | None = None
    record_path: Path | None = None
    """Path of its record in this folder; None where that lies on its own server."""
    silence_s: float | None = None
    """Seconds since the record was written, by the clock of the file system; where the record lies
    on the server, by the clock of that server. None where there is no record."""
    problem: str = ""
    """Why its record cannot be read."""
    claims: str | None = None
    """The place in a bucket through which it shares its runs; then `log` and `remote_record` are
    paths on its server. None: it shares the output folder."""
    remote_record: Path | None = None
    """Path of its record on its own server, until the record was fetched."""


def read_workers(output: Path) -> list[Worker]:
    """Every worker that was ever submitted to a server for `output`, in order of submission."""
    found = [worker for paths in list_submissions(output) for worker in _workers(paths)]
    return _with_ages(output, found)


def _with_ages(output: Path, workers: list[Worker]) -> list[Worker]:
    """`workers`, with the age of each record."""
    records = [worker.record for worker in workers if worker.record and worker.record_path]
    if not records:
        return workers
    now = _now(output, is_exact=any(record.ended is None for record in records))
    return [_with_age(worker, now) for worker in workers]


def _with_age(worker: Worker, now: float) -> Worker:
    written = modified(worker.record_path) if worker.record_path and worker.record else None
    return worker if written is None else replace(worker, silence_s=now - written)


def _now(output: Path, *, is_exact: bool) -> float:
    """Unix time by the clock that dates the records.

    Of a folder that this user can only read, or where no decision hangs on it: by the clock here.
    """
    if is_exact:
        with suppress(StorageError):
            return clock_of(output)
    return SYSTEM_CLOCK.now()


def worker_state(worker: Worker, here: Owner | None = None) -> WorkerState:
    """The state of `worker` when its record was read.

    With `here`, a worker on this host also counts as failed once its process is gone.
    """
    record = worker.record
    if worker.problem:
        return WorkerState.UNKNOWN
    if record is None:
        return WorkerState.NOT_ASKED if worker.remote_record else WorkerState.NOT_STARTED
    if record.ended is not None:
        return _STATE_OF_EXIT.get(record.exit_code, WorkerState.FAILED)
    if here and owner_alive(record.owner, here) is False:
        return WorkerState.FAILED
    is_fresh = worker.silence_s is not None and worker.silence_s < record.expiry_s
    return WorkerState.AT_WORK if is_fresh else WorkerState.SILENT


def refuse_cancel_across_folders(output: Path) -> None:
    """UsageError where the workers share runs only through a bucket.

    A request to cancel a run is a file in this folder, which such workers do not read. The last
    submission counts.
    """
    workers = read_workers(output)
    if workers and (place := workers[-1].claims):
        stop = quote(["replicate", "cancel", str(output), "--workers"])
        raise UsageError(
            f"the workers of submission {workers[-1].submission} share their runs through {place}: "
            f"they do not read requests to cancel runs, which are files in {output}; "
            f"stop whole workers with `{stop}`"
        )


def _workers(paths: SubmissionPaths) -> list[Worker]:
    # An unreadable record becomes a row of its own and hides no other submission.
    try:
        document = read_submission_document(paths, "servers")
        if document is None:
            return []
        return [_worker(paths, document, server) for server in document["servers"]]
    except RecordError as error:
        problem = str(error)
    except (KeyError, TypeError) as error:
        problem = f"{paths.record} is not a record of this version ({error})"
    return [Worker(submission=paths.root.name, name="?", ssh="", log=paths.logs, problem=problem)]


def _worker(paths: SubmissionPaths, document: dict[str, Any], server: dict[str, Any]) -> Worker:
    record, problem, claims = None, "", document.get("claims")
    if claims:
        paths = SweepPaths(Path(server["output"])).submission(paths.root.name)
    path = paths.worker(server["name"])
    if not claims:
        record, problem = _record(path)
    config = document["ssh_config"]
    return Worker(
        submission=paths.root.name,
        name=server["name"],
        ssh=server["ssh"],
        ssh_config=Path(config) if config else None,
        connect_timeout_s=document["connect_timeout_s"],
        num_runs=server["num_runs"],
        log=paths.log(server["name"]),
        record=record,
        problem=problem,
        claims=claims,
        record_path=None if claims else path,
        remote_record=path if claims else None,
    )


def _record(path: Path) -> tuple[WorkerRecord | None, str]:
    """A worker's record and why it cannot be read."""
    try:
        return read_worker(path), ""
    except FileNotFoundError:
        return None, ""
    except RecordError as error:
        return None, str(error)
