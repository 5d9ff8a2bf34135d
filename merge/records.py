"""The records in a run's folder: claim, attempt, result; and how each is read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.files import is_finite_number, read_json
from merge.sweep import SCHEMA, Value, refuse_foreign_schema

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

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self), "command": list(self.command)}


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
        }


def read_result(path: Path) -> Result:
    """The result in `path`. FileNotFoundError where there is none, RecordError where unusable."""
    document = read_json(path)
    refuse_foreign_schema(path, document)
    try:
        result = Result(**_without_schema(document))
    except TypeError as error:
        raise _malformed(path, error) from error
    check_metrics(path, result.metrics)
    return result


def check_metrics(path: Path, metrics: object) -> None:
    """RecordError unless `metrics` maps at least one name to a finite number each."""
    if not isinstance(metrics, dict) or not metrics:
        raise RecordError(f'{path} has no "metrics": {{"<name>": <number>}}')
    for name, value in metrics.items():
        if not is_finite_number(value):
            raise RecordError(f"{path}: metric {name!r} is {value!r}, not a finite number")


def read_claim(path: Path) -> Claim:
    """The claim in `path`. FileNotFoundError where there is none, RecordError where unusable."""
    return claim_from_json(path, read_json(path))


def claim_from_json(path: Path, document: Mapping[str, Any]) -> Claim:
    """The claim that `document`, read from `path`, holds. RecordError where it is none."""
    refuse_foreign_schema(path, document)
    try:
        fields = _without_schema(document)
        return Claim(**{**fields, "owner": Owner(**fields["owner"])})
    except (KeyError, TypeError) as error:
        raise _malformed(path, error) from error


def read_attempt(path: Path) -> AttemptRecord:
    """The attempt in `path`. FileNotFoundError where absent, RecordError where unusable."""
    document = read_json(path)
    refuse_foreign_schema(path, document)
    try:
        fields = _without_schema(document)
        fields["owner"] = Owner(**fields["owner"])
        fields["command"] = tuple(fields["command"])
        fields["devices"] = tuple(fields["devices"])
        fields["outcome"] = None if fields["outcome"] is None else Outcome(fields["outcome"])
        return AttemptRecord(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(path, error) from error


def _without_schema(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "schema"}


def _malformed(path: Path, error: Exception) -> RecordError:
    return RecordError(f"{path} is not a record of this version ({error})")
