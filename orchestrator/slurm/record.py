"""The record of a submission: which runs which task of which job array was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.records.sweep import SCHEMA, refuse_foreign_schema
from merge.storage.json_files import read_json
from merge.storage.paths import SweepPaths

KIND = "slurm"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentArray:
    """One job array, or one plain job, of a submission."""

    name: str
    tasks: tuple[tuple[str, ...], ...] = ()
    """Ids of the runs of each task; none for the merge job."""
    job_id: str | None = None
    """None where it is not sent yet, or SLURM's answer did not reach this record."""

    def task_id(self, index: int) -> str:
        """A task as SLURM names it: 12_3."""
        return f"{self.job_id}_{index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What was sent to SLURM at one time. Written by the sender alone, again at each job."""

    id: str
    created: float
    """Unix time, in seconds."""
    by: str
    host: str
    arrays: tuple[SentArray, ...]
    merge: SentArray | None = None

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "kind": KIND, **asdict(self)}


def read_submissions(output: Path) -> list[Submission]:
    """All submissions to SLURM of the sweep in `output`, oldest first; none where there are none.

    RecordError where one cannot be read.
    """
    folder = SweepPaths(output).submissions
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        return []
    found = (_read(SweepPaths(output).submission(name).record) for name in names)
    return sorted((one for one in found if one), key=lambda one: one.created)


def read_submission(output: Path, submission_id: str) -> Submission:
    """One submission. RecordError where it is not there or unreadable."""
    path = SweepPaths(output).submission(submission_id).record
    submission = _read(path)
    if submission is None:
        raise RecordError(f"{path} is not there, or tells of no SLURM jobs: submit again")
    return submission


def _read(path: Path) -> Submission | None:
    """None where `path` is absent, or a submission to something else."""
    try:
        document = read_json(path)
    except FileNotFoundError:
        return None
    refuse_foreign_schema(path, document)
    if document.get("kind") != KIND:
        return None
    try:
        return _from_json(document)
    except (KeyError, TypeError) as error:
        raise RecordError(
            f"{path} is damaged ({type(error).__name__}: {error}): move its folder away; its jobs "
            f"are still in SLURM's queue"
        ) from error


def _from_json(document: Mapping[str, Any]) -> Submission:
    return Submission(
        id=document["id"],
        created=document["created"],
        by=document["by"],
        host=document["host"],
        arrays=tuple(_array(one) for one in document["arrays"]),
        merge=None if document["merge"] is None else _array(document["merge"]),
    )


def _array(document: Mapping[str, Any]) -> SentArray:
    return SentArray(
        name=document["name"],
        tasks=tuple(tuple(task) for task in document["tasks"]),
        job_id=document["job_id"],
    )
