"""The record of a submission to SLURM: the runs of each task of each job array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from merge.errors import RecordError
from merge.records.submissions import list_submissions, read_submission_document
from merge.records.sweep import SCHEMA
from merge.storage.control_paths import SubmissionPaths
from merge.storage.paths import SweepPaths

KIND: Final = "slurm"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayRecord:
    """One job array, or one plain job, of a submission."""

    name: str
    tasks: tuple[tuple[str, ...], ...] = ()
    """Ids of the runs of each task; none for the merge job."""
    job_id: str | None = None
    """None until SLURM has accepted it, or where its answer got lost."""
    grace_s: float | None = None
    """Seconds that its runs have for a checkpoint when they are asked to stop."""
    num_raises: Mapping[str, int] = field(default_factory=dict)
    """How often `mem` and `time` were raised, because earlier tasks had too little."""

    def task_id(self, index: int) -> str:
        """SLURM's id of a task: 12_3."""
        return f"{self.job_id}_{index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionRecord:
    """One call of `submit --slurm`. Only that call writes it, again after each accepted job."""

    id: str
    created: float
    """Unix time, in seconds."""
    by: str
    host: str
    arrays: tuple[ArrayRecord, ...]
    merge: ArrayRecord | None = None
    cluster: str = ""
    """ClusterName of the cluster that has the jobs; empty where it is not known."""

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "kind": KIND, **asdict(self)}


def read_submissions(output: Path) -> list[SubmissionRecord]:
    """All submissions to SLURM of the sweep in `output`, oldest first.

    RecordError where one cannot be read.
    """
    found = (_read(paths) for paths in list_submissions(output))
    return sorted((record for record in found if record), key=lambda record: record.created)


def read_submission(output: Path, submission_id: str) -> SubmissionRecord:
    """One submission. RecordError where it is absent or unreadable."""
    paths = SweepPaths(output).submission(submission_id)
    record = _read(paths)
    if record is None:
        raise RecordError(f"{paths.record} does not exist or lists no SLURM jobs: submit again")
    return record


def _read(paths: SubmissionPaths) -> SubmissionRecord | None:
    """None where the record is absent, or of a submission to servers."""
    document = read_submission_document(paths, KIND)
    if document is None:
        return None
    try:
        return _from_json(document)
    except (KeyError, TypeError) as error:
        raise RecordError(
            f"{paths.record} is damaged ({type(error).__name__}: {error}): move its folder away; "
            f"its jobs are still in SLURM's queue"
        ) from error


def _from_json(document: Mapping[str, Any]) -> SubmissionRecord:
    return SubmissionRecord(
        id=document["id"],
        created=document["created"],
        by=document["by"],
        host=document["host"],
        arrays=tuple(_array(one) for one in document["arrays"]),
        merge=None if document["merge"] is None else _array(document["merge"]),
        cluster=document.get("cluster", ""),
    )


def _array(document: Mapping[str, Any]) -> ArrayRecord:
    return ArrayRecord(
        name=document["name"],
        tasks=tuple(tuple(task) for task in document["tasks"]),
        job_id=document["job_id"],
        grace_s=document.get("grace_s"),
        num_raises=document.get("num_raises", {}),
    )
