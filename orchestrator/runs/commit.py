"""The fence: how the result file of a trainer becomes the one result of its run.

A result is created exclusively, under the claim's token, and only while that claim has the run.
A late result is kept aside, for a person to look at, and never counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.errors import PapergridError, RecordError, StorageError
from merge.records.manifest import Manifest
from merge.records.records import Claim
from merge.records.result import Result, check_metrics, read_result
from merge.storage.json_files import is_finite_number, read_json, write_json_exclusive
from merge.storage.passing_failures import repeated
from merge.storage.paths import RunPaths
from orchestrator.runs.claims import holds


@dataclass(frozen=True, slots=True)
class TrainerResult:
    """What a trainer left as its result."""

    metrics: Mapping[str, float]
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Aside:
    """A result that came too late: kept in `path`, never counted."""

    path: Path
    reason: str


def read_trainer_result(path: Path, metric: str, manifest: Manifest) -> TrainerResult | None:
    """What the trainer left in `path`; None where it left nothing.

    RecordError unless all its metrics are finite numbers in the ranges of `manifest`, and `metric`
    is among them.
    """
    try:
        document = read_json(path)
    except FileNotFoundError:
        return None
    metrics = document.get("metrics")
    check_metrics(path, metrics)
    assert isinstance(metrics, dict)
    if not is_finite_number(metrics.get(metric)):
        raise RecordError(
            f"{path} has no metric {metric!r}, which the study averages; it has: "
            f"{', '.join(sorted(metrics))}",
            path=path,
        )
    manifest.check_ranges(path, metrics)
    details = document.get("details", {})
    if not isinstance(details, dict):
        raise RecordError(f'{path}: "details" is not an object', path=path)
    return TrainerResult(metrics, details)


def commit_result(
    paths: RunPaths,
    claim: Claim,
    result: Result,
    holds: Callable[[RunPaths, Claim], bool] = holds,
) -> Aside | None:
    """Make `result` the run's result, or keep it aside where `claim` has lost the run.

    Failures that may pass are waited for. StorageError where neither can be written; RecordError
    where the run's claims are unreadable.
    """
    assert result.token == claim.token
    if not repeated(lambda: holds(paths, claim)):
        return _keep_aside(paths, result, "another executor took the run over meanwhile")
    if not _create(paths, result):
        return _keep_aside(paths, result, "the run had a result already")
    return None


def _create(paths: RunPaths, result: Result) -> bool:
    """Whether the run's one result is `result` now; False where it is another one."""

    has_failed = False

    def create() -> bool:
        nonlocal has_failed
        try:
            is_made = write_json_exclusive(paths.result, result.to_json(), paths.disk)
        except (StorageError, OSError):
            has_failed = True
            raise
        # A failed try may have made it: a link whose reply was lost, an fsync of the folder.
        return is_made or (has_failed and _is_there(paths, result))

    try:
        return repeated(create)
    except (StorageError, OSError):
        if not _is_there(paths, result):
            raise
        return True


def _is_there(paths: RunPaths, result: Result) -> bool:
    try:
        return read_result(paths.result, paths.disk).to_json() == result.to_json()
    except (PapergridError, OSError):
        return False


def _keep_aside(paths: RunPaths, result: Result, reason: str) -> Aside:
    path = paths.result_aside(result.token)
    repeated(lambda: write_json_exclusive(path, result.to_json(), paths.disk))
    return Aside(path, reason)
