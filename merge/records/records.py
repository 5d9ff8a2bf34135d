"""The records in a run's folder: claim, attempt, result; and how each is read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.records.field_types import check_types
from merge.records.sweep import SCHEMA, Value, refuse_foreign_schema
from merge.storage.disk import SYSTEM_DISK, Disk
from merge.storage.json_files import is_finite_number, read_json

EXPIRY_S = 60.0
"""How long the owner of a claim may be silent, unless its claim says otherwise."""


class Outcome(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """Stopped on request, after its checkpoint was written."""
    LOST = "lost"
    """Its owner died; found out by whoever took the run over."""


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
    """A rank saw its peers vanish; what ended them is not known."""
    NAN_LOSS = "nan_loss"
    DATA = "data"
    CONFIG = "config"
    DISK_FULL = "disk_full"
    """Or read-only, or not permitted."""
    KILLED = "killed"
    """By a signal that nobody here sent."""
    STALLED = "stalled"
    """It wrote nothing for too long and was killed for that."""
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Stopped by a person, to go on later."""
    PREEMPTED = "preempted"
    TIME_LIMIT = "time_limit"
    NODE_FAILURE = "node_failure"
    """Its machine went; found out by whoever took the run over."""
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
    """The process's start time as its system tells it: a reused pid is another process."""
    boot_id: str
    """Changes with every boot of the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who has a run. Written by its owner alone, again at every heartbeat."""

    number: int
    token: str
    owner: Owner
    heartbeat: float
    """Unix time of the owner's last sign of life, in seconds, by the owner's clock."""
    released: bool = False
    expiry_s: float = EXPIRY_S
    """What the owner promises: silent for longer, it is dead."""

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
    took_over: Mapping[str, Any] = field(default_factory=dict)
    """The attempt before, where that ended without a word: {"attempt", "cause", "reason"}."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "command": list(self.command)}


class RequestAction(StrEnum):
    """What a person wants of a run."""

    CANCEL = "cancel"
    """Stop it, and start it nowhere."""
    RETRY = "retry"
    """Run it again, and count its attempts anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request about a run, to the executor that has it; the one of the highest number holds."""

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
        # "wish" is the key of `action` in the folders of all versions.
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
    """What it promises: without a heartbeat for longer, something is wrong."""
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""
    """Why it ended before its time."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The one immutable result of a run."""

    run_id: str
    config_hash: str
    axes: Mapping[str, Value]
    metrics: Mapping[str, float]
    """Fractions in [0, 1] for mIoU and the like; never percent."""
    attempt: int
    token: str
    started: float
    finished: float
    code: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the trainer left: per-class counts, protocol, epochs, hashes."""
    deviations: Mapping[str, Any] = field(default_factory=dict)
    """Where the run left its configuration, and why, by key:
    {"micro_batch": {"planned": 8, "used": 4, "cause": "cuda_oom", "attempt": 1}}."""

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "config_hash": self.config_hash,
            "axes": dict(self.axes),
            "metrics": dict(self.metrics),
            "attempt": self.attempt,
            "token": self.token,
            "started": self.started,
            "finished": self.finished,
            "code": dict(self.code),
            "details": dict(self.details),
            "deviations": dict(self.deviations),
        }


def read_result(path: Path, disk: Disk = SYSTEM_DISK) -> Result:
    """The result in `path`. FileNotFoundError where there is none, RecordError where unusable."""
    return result_from_json(path, read_json(path, disk=disk))


def result_from_json(path: Path | str, document: Mapping[str, Any]) -> Result:
    """The result that `document` holds; RecordError, which names `path`, where unusable."""
    refuse_foreign_schema(path, document)
    try:
        result = Result(**_without_schema(document))
    except TypeError as error:
        raise _malformed(path, error) from error
    check_metrics(path, result.metrics)
    _check_result(path, result)
    return result


def _check_result(path: Path | str, result: Result) -> None:
    """RecordError unless what merging orders, groups and compares by has its type."""
    for name, kind in _RESULT_TYPES.items():
        value = getattr(result, name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise RecordError(f"{path}: {name!r} is {value!r}, which no result of ours has")
    for name in ("started", "finished"):
        if not is_finite_number(getattr(result, name)):
            raise RecordError(f"{path}: {name!r} is no time")


_RESULT_TYPES: dict[str, Any] = {
    "run_id": str,
    "config_hash": str,
    "token": str,
    "axes": dict,
    "attempt": int,
    "code": dict,
    "details": dict,
    "deviations": dict,
}


def check_metrics(path: Path | str, metrics: object) -> None:
    """RecordError unless `metrics` maps at least one name to a finite number each."""
    if not isinstance(metrics, dict) or not metrics:
        raise RecordError(f'{path} has no "metrics": {{"<name>": <number>}}')
    for name, value in metrics.items():
        if not is_finite_number(value):
            raise RecordError(f"{path}: metric {name!r} is {value!r}, not a finite number")


def read_claim(path: Path, disk: Disk = SYSTEM_DISK) -> Claim:
    """The claim in `path`. FileNotFoundError where there is none, RecordError where unusable."""
    return claim_from_json(path, read_json(path, disk=disk))


def claim_from_json(path: Path | str, document: Mapping[str, Any]) -> Claim:
    """The claim that `document`, read from `path`, holds. RecordError where it is none."""
    refuse_foreign_schema(path, document)
    try:
        fields = _without_schema(document)
        claim = Claim(**{**fields, "owner": Owner(**fields["owner"])})
        check_types(claim)
    except (KeyError, TypeError) as error:
        raise _malformed(path, error) from error
    return claim


def read_worker(path: Path) -> WorkerRecord:
    """The worker in `path`. FileNotFoundError where absent, RecordError where unusable."""
    return worker_from_json(path, read_json(path))


def worker_from_json(path: Path, document: Mapping[str, Any]) -> WorkerRecord:
    """The worker that `document`, read from `path`, tells of. RecordError where it is none."""
    refuse_foreign_schema(path, document)
    try:
        fields = _without_schema(document)
        worker = WorkerRecord(**{**fields, "owner": Owner(**fields["owner"])})
        check_types(worker)
    except (KeyError, TypeError) as error:
        raise _malformed(path, error) from error
    return worker


def read_attempt(path: Path, disk: Disk = SYSTEM_DISK) -> AttemptRecord:
    """The attempt in `path`. FileNotFoundError where absent, RecordError where unusable."""
    return attempt_from_json(path, read_json(path, disk=disk))


def attempt_from_json(path: Path | str, document: Mapping[str, Any]) -> AttemptRecord:
    """The attempt that `document`, read from `path`, records. RecordError where it is none."""
    refuse_foreign_schema(path, document)
    try:
        fields = _without_schema(document)
        fields["owner"] = Owner(**fields["owner"])
        fields["command"] = tuple(fields["command"])
        fields["devices"] = tuple(fields["devices"])
        fields["outcome"] = None if fields["outcome"] is None else Outcome(fields["outcome"])
        fields["cause"] = None if fields.get("cause") is None else Cause(fields["cause"])
        attempt = AttemptRecord(**fields)
        check_types(attempt)
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(path, error) from error
    return attempt


def read_request(path: Path, disk: Disk = SYSTEM_DISK) -> Request:
    """The request in `path`. FileNotFoundError where absent, RecordError where unusable."""
    document = read_json(path, disk=disk)
    refuse_foreign_schema(path, document)
    try:
        fields = _without_schema(document)
        action = RequestAction(fields.pop("wish"))
        request = Request(**fields, action=action)
        check_types(request)
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(path, error) from error
    return request


def _without_schema(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "schema"}


def _malformed(path: Path | str, error: Exception) -> RecordError:
    return RecordError(f"{path} is not a record of this version ({error})")
