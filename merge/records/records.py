"""Records of who runs a run and how it went: claim, attempt, request, worker; read and checked.

The result of a run has a module of its own, `merge.records.result`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from merge.records.field_types import check_types, malformed, without_schema
from merge.records.sweep import SCHEMA, refuse_foreign_schema
from merge.storage.disk import SYSTEM_DISK, Disk
from merge.storage.json_files import read_json

EXPIRY_S = 60.0
"""How long a claim's owner may write no heartbeat, unless the claim says otherwise."""


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Stopped on request, after its checkpoint was written."""
    LOST = "lost"
    """Its owner died; the next owner of the run records it."""


class Cause(StrEnum):
    """Why an attempt ended as it did."""

    DONE = "done"
    UNCLEAN_EXIT = "unclean_exit"
    """Its result was whole and counts, but the command did not exit 0: an abort at teardown."""
    CUDA_OOM = "cuda_oom"
    HOST_OOM = "host_oom"
    PORT_IN_USE = "port_in_use"
    COLLECTIVE_TIMEOUT = "collective_timeout"
    RANK_FAILED = "rank_failed"
    """A rank lost its peers; why they ended is not known."""
    NAN_LOSS = "nan_loss"
    DATA = "data"
    CONFIG = "config"
    DISK_FULL = "disk_full"
    """Or read-only, not permitted, or an input/output error."""
    SYSTEM_LIMIT = "system_limit"
    """No process, thread or open file was to be had."""
    KILLED = "killed"
    """By a signal that papergrid did not send."""
    STALLED = "stalled"
    """It wrote nothing for too long, and papergrid killed it for that."""
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Stopped by a person, to go on later."""
    PREEMPTED = "preempted"
    TIME_LIMIT = "time_limit"
    NODE_FAILURE = "node_failure"
    """Its machine failed; the next owner of the run records it."""
    LOST = "lost"
    """Its executor died, or its claim went to another one."""
    NO_RESULT = "no_result"
    """It exited 0 without a result that can be used."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The process that holds a claim."""

    host: str
    pid: int
    pid_started: str
    """The process's start time, by its system: a reused pid is another process."""
    boot_id: str
    """Changes with every boot of the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who has a run. Written by its owner alone, again at every heartbeat."""

    number: int
    token: str
    owner: Owner
    heartbeat: float
    """Unix time of the owner's last heartbeat, in seconds, by the owner's clock."""
    released: bool = False
    expiry_s: float = EXPIRY_S
    """Without a heartbeat for longer than this, the owner counts as dead."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One execution of a run. Written by the claim's owner, at its start and at its end."""

    number: int
    token: str
    owner: Owner
    command: tuple[str, ...]
    device: str
    devices: tuple[str, ...]
    started: float
    """Unix time, in seconds."""
    code: Mapping[str, Any]
    ended: float | None = None
    exit_code: int | None = None
    """As the shell counts: 128 + N for death by signal N."""
    outcome: Outcome | None = None
    reason: str = ""
    cause: Cause | None = None
    """None while it goes on, and in records of older versions."""
    micro_batch: int | None = None
    """Of a rank, as it was given; None where the run is not known to have one."""
    num_workers: int | None = None
    """Loader processes of a rank, as it was given."""
    deviations: Mapping[str, Any] = field(default_factory=dict)
    """As in `Result`: how this attempt differs from the plan."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """Where it ran: package versions, driver, folder, the scheduler's job."""
    trained_since: int | None = None
    """The first attempt whose training this one may continue; None in records of older versions."""
    earlier_code: tuple[Mapping[str, Any], ...] = ()
    """As in `Result`."""
    seconds: float | None = None
    """How long its command ran, by a clock that is never set; None until it ended, and in records
    of older versions."""
    took_over: Mapping[str, Any] = field(default_factory=dict)
    """The attempt before, where it left no final record: {"attempt", "cause", "reason"}."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "command": list(self.command)}


class RequestAction(StrEnum):
    """What a person requests of a run."""

    CANCEL = "cancel"
    """Stop it, and start it nowhere."""
    RETRY = "retry"
    """Run it again, and count its attempts anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request about a run, to the executor that has it; the highest number counts."""

    number: int
    action: RequestAction
    claim: int
    """The highest claim when it was written; 0 where there was none."""
    by: str
    host: str
    time: float
    """Unix time, in seconds."""

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        # "wish" is the key of `action` on disk, so that executors of older versions read it too.
        return {
            "schema": SCHEMA,
            "number": fields.pop("number"),
            "wish": fields.pop("action"),
            **fields,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker of a submission. Written by itself alone, again at every heartbeat."""

    name: str
    """Of its server, as the submission names it."""
    owner: Owner
    started: float
    """Unix time, in seconds."""
    heartbeat: float
    expiry_s: float = EXPIRY_S
    """Without a heartbeat for longer than this, something is wrong."""
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""
    """Why it ended early."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


def read_claim(path: Path, disk: Disk = SYSTEM_DISK) -> Claim:
    """The claim in `path`. FileNotFoundError where there is none, RecordError where unusable."""
    return claim_from_json(path, read_json(path, disk=disk))


def claim_from_json(path: Path | str, document: Mapping[str, Any]) -> Claim:
    """The claim that `document`, read from `path`, holds. RecordError where it is none."""
    refuse_foreign_schema(path, document)
    try:
        fields = without_schema(document)
        claim = Claim(**{**fields, "owner": Owner(**fields["owner"])})
        check_types(claim)
    except (KeyError, TypeError) as error:
        raise malformed(path, error) from error
    return claim


def read_worker(path: Path) -> WorkerRecord:
    """The worker in `path`. FileNotFoundError where absent, RecordError where unusable."""
    return worker_from_json(path, read_json(path))


def worker_from_json(path: Path, document: Mapping[str, Any]) -> WorkerRecord:
    """The worker that `document`, read from `path`, records. RecordError where it is none."""
    refuse_foreign_schema(path, document)
    try:
        fields = without_schema(document)
        worker = WorkerRecord(**{**fields, "owner": Owner(**fields["owner"])})
        check_types(worker)
    except (KeyError, TypeError) as error:
        raise malformed(path, error) from error
    return worker


def read_attempt(path: Path, disk: Disk = SYSTEM_DISK) -> AttemptRecord:
    """The attempt in `path`. FileNotFoundError where absent, RecordError where unusable."""
    return attempt_from_json(path, read_json(path, disk=disk))


def attempt_from_json(path: Path | str, document: Mapping[str, Any]) -> AttemptRecord:
    """The attempt that `document`, read from `path`, records. RecordError where it is none."""
    refuse_foreign_schema(path, document)
    try:
        fields = without_schema(document)
        fields["owner"] = Owner(**fields["owner"])
        fields["command"] = tuple(fields["command"])
        fields["devices"] = tuple(fields["devices"])
        fields["earlier_code"] = tuple(fields.get("earlier_code", ()))
        fields["outcome"] = None if fields["outcome"] is None else Outcome(fields["outcome"])
        fields["cause"] = None if fields.get("cause") is None else Cause(fields["cause"])
        attempt = AttemptRecord(**fields)
        check_types(attempt)
    except (KeyError, TypeError, ValueError) as error:
        raise malformed(path, error) from error
    return attempt


def read_request(path: Path, disk: Disk = SYSTEM_DISK) -> Request:
    """The request in `path`. FileNotFoundError where absent, RecordError where unusable."""
    document = read_json(path, disk=disk)
    refuse_foreign_schema(path, document)
    try:
        fields = without_schema(document)
        action = RequestAction(fields.pop("wish"))
        request = Request(**fields, action=action)
        check_types(request)
    except (KeyError, TypeError, ValueError) as error:
        raise malformed(path, error) from error
    return request
