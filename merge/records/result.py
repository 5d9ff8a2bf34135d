"""The result of a run: immutable, and checked where it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.records.field_types import malformed, without_schema
from merge.records.sweep import SCHEMA, Value, refuse_foreign_schema
from merge.storage.disk import SYSTEM_DISK, Disk
from merge.storage.json_files import is_finite_number, read_json

_OURS = frozenset({"schema", "run_id", "config_hash", "token"})
"""Keys of a committed result, none of which a command writes into its own."""


class MisplacedResultError(RecordError):
    """A run's result.json is not papergrid's: a command wrote it, into the wrong folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The one immutable result of a run."""

    run_id: str
    config_hash: str
    axes: Mapping[str, Value]
    metrics: Mapping[str, float]
    """As the trainer measured them: of a unit `percent` fractions in [0, 1], never times 100."""
    attempt: int
    token: str
    started: float
    finished: float
    code: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else the trainer left: counts by class, protocol, epochs, hashes."""
    deviations: Mapping[str, Any] = field(default_factory=dict)
    """Where the run left its configuration, and why, by key:
    {"micro_batch": {"planned": 8, "used": 4, "cause": "cuda_oom", "attempt": 1}}. With
    "changes_number": true where the number is another one for it."""
    earlier_code: Sequence[Mapping[str, Any]] = ()
    """Other code than `code`, of earlier attempts whose training this result may continue:
    [{"attempts": [1, 2], "source": ..., "git_commit": ...}]."""
    trained_s: float | None = None
    """Seconds of training, over all attempts; None in results of older versions."""

    def to_json(self) -> dict[str, Any]:
        document = {
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
        # Most results are of one code, and readers of older versions do not know the key.
        if self.earlier_code:
            document["earlier_code"] = [dict(each) for each in self.earlier_code]
        # Absent, not null: older results keep the text that they have.
        return document if self.trained_s is None else {**document, "trained_s": self.trained_s}


def read_result(path: Path, disk: Disk = SYSTEM_DISK) -> Result:
    """The result in `path`. FileNotFoundError where there is none, RecordError where unusable."""
    return result_from_json(path, read_json(path, disk=disk))


def result_from_json(path: Path | str, document: Mapping[str, Any]) -> Result:
    """The result that `document` holds; RecordError, which names `path`, where unusable."""
    if _OURS.isdisjoint(document):
        raise MisplacedResultError(
            f"{path} was written by the run's command and does not count: let the command write "
            "its result.json into $PAPERGRID_ATTEMPT_DIR, not into $PAPERGRID_RUN_DIR, and start "
            "the run again, which moves this file out of the way"
        )
    refuse_foreign_schema(path, document)
    try:
        result = Result(**without_schema(document))
    except TypeError as error:
        raise malformed(path, error) from error
    check_metrics(path, result.metrics)
    _check_result(path, result)
    return result


def _check_result(path: Path | str, result: Result) -> None:
    """RecordError unless what merging orders, groups and compares by has its type."""
    if [*map(type, _typed_fields(result))] != _TYPES:
        _refuse_types(path, result)
    if result.earlier_code and not is_code_list(result.earlier_code):
        raise RecordError(f"{path}: 'earlier_code' is not a list of code versions")
    for name in ("started", "finished"):
        if not is_finite_number(getattr(result, name)):
            raise RecordError(f"{path}: {name!r} is not a time")
    if result.trained_s is not None and not is_finite_number(result.trained_s):
        raise RecordError(f"{path}: 'trained_s' is not a number of seconds")


def is_code_list(value: object) -> bool:
    """Whether `value` can be the `earlier_code` of a result that was read."""
    return isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(each.get("attempts"), list) for each in value
    )


def _refuse_types(path: Path | str, result: Result) -> None:
    for name, kind in _RESULT_TYPES.items():
        value = getattr(result, name)
        # bool is a subclass of int: `"attempt": true` would be attempt 1.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise RecordError(f"{path}: {name!r} is {value!r}, of the wrong type")


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
_typed_fields = attrgetter(*_RESULT_TYPES)
_TYPES = [*_RESULT_TYPES.values()]
"""Types that JSON gives a valid result. Compared at once: field by field takes 3 times as long."""


def check_metrics(path: Path | str, metrics: object) -> None:
    """RecordError unless `metrics` maps at least one name to a finite number each."""
    if not isinstance(metrics, dict) or not metrics:
        raise RecordError(f'{path} has no "metrics": {{"<name>": <number>}}')
    for name, value in metrics.items():
        if not is_finite_number(value):
            raise RecordError(f"{path}: metric {name!r} is {value!r}, not a finite number")
