"""Workers on servers, as their own records tell: light, and asking nobody over the network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from merge.errors import INTERRUPTED_EXIT_CODE, RecordError, UsageError
from merge.records.records import Owner, WorkerRecord, read_worker
from merge.records.sweep import refuse_foreign_schema
from merge.storage.json_files import read_json
from merge.storage.paths import SubmissionPaths, SweepPaths
from orchestrator.machine.owners import owner_alive

KIND = "servers"


class Condition(StrEnum):
    """What is known of a worker without asking its server."""

    NOT_STARTED = "not started"
    NOT_ASKED = "not asked"
    """Its record lies on its own server, which was not asked."""
    AT_WORK = "at work"
    SILENT = "silent"
    """It may be dead, suspended, or cut off from the shared folder."""
    FINISHED = "finished"
    STOPPED = "stopped"
    """On request."""
    FAILED = "failed"
    UNKNOWN = "unknown"


_ENDS: dict[int | None, Condition] = {
    0: Condition.FINISHED,
    INTERRUPTED_EXIT_CODE: Condition.STOPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker as its submission and its own record tell."""

    submission: str
    name: str
    ssh: str
    log: Path
    ssh_config: Path | None = None
    connect_timeout_s: int = 15
    num_runs: int = 0
    record: WorkerRecord | None = None
    problem: str = ""
    """Why its record cannot be read."""
    claims: str | None = None
    """The place in a bucket through which it shares its runs; then `log` and `there` are paths on
    its server. None: it shares the output folder."""
    there: Path | None = None
    """Its record on its own server, as long as that was not asked."""


def read_workers(output: Path) -> list[Worker]:
    """Every worker that was ever submitted to a server for `output`, in order of submission."""
    root = SweepPaths(output).submissions
    try:
        names = sorted(entry.name for entry in root.iterdir())
    except FileNotFoundError:
        return []
    return [worker for name in names for worker in _workers(output, name)]


def condition(worker: Worker, now: float, here: Owner | None = None) -> Condition:
    """The condition of `worker` at Unix time `now`, as seen from `here`."""
    record = worker.record
    if worker.problem:
        return Condition.UNKNOWN
    if record is None:
        return Condition.NOT_ASKED if worker.there else Condition.NOT_STARTED
    if record.ended is not None:
        return _ENDS.get(record.exit_code, Condition.FAILED)
    if here and owner_alive(record.owner, here) is False:
        return Condition.FAILED
    is_fresh = now - record.heartbeat < record.expiry_s
    return Condition.AT_WORK if is_fresh else Condition.SILENT


def refuse_unheard(output: Path) -> None:
    """UsageError where workers share runs through a bucket: no request in this folder reaches them.

    That of the last submission counts.
    """
    workers = read_workers(output)
    if workers and (place := workers[-1].claims):
        raise UsageError(
            f"the workers of submission {workers[-1].submission} share their runs through {place}: "
            f"a request to cancel runs, which is a file in {output}, would reach none of them; "
            f"stop whole workers with `replicate cancel {output} --workers`"
        )


def _workers(output: Path, name: str) -> list[Worker]:
    # A record that cannot be read is told as such; it hides no other submission.
    paths = SweepPaths(output).submission(name)
    try:
        document = read_json(paths.record)
        if document.get("kind") != KIND:
            return []
        refuse_foreign_schema(paths.record, document)
        return [_worker(paths, document, server) for server in document["servers"]]
    except FileNotFoundError:
        return []
    except RecordError as error:
        problem = str(error)
    except (KeyError, TypeError) as error:
        problem = f"{paths.record} is not a record of this version ({error})"
    return [Worker(submission=name, name="?", ssh="", log=paths.logs, problem=problem)]


def _worker(paths: SubmissionPaths, document: dict[str, Any], server: dict[str, Any]) -> Worker:
    record, problem, claims = None, "", document.get("claims")
    if claims:
        paths = SweepPaths(Path(server["output"])).submission(paths.root.name)
    else:
        record, problem = _record(paths.worker(server["name"]))
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
        there=paths.worker(server["name"]) if claims else None,
    )


def _record(path: Path) -> tuple[WorkerRecord | None, str]:
    """A worker's record and why it cannot be read."""
    try:
        return read_worker(path), ""
    except FileNotFoundError:
        return None, ""
    except RecordError as error:
        return None, str(error)
