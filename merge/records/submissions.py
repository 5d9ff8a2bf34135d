"""Records of submissions to SLURM and to servers: `submissions/<id>/submission.json`."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any, Literal, get_args

from merge.records.sweep import refuse_foreign_schema
from merge.storage.control_paths import SubmissionPaths
from merge.storage.json_files import read_json
from merge.storage.paths import SweepPaths

SubmissionKind = Literal["slurm", "servers"]


def new_submission_id(now: float) -> str:
    """`20261121-081500-1f3a`: sorts by time; the random end separates calls in the same second."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(2)}"


def list_submissions(output: Path) -> list[SubmissionPaths]:
    """All submissions of the sweep in `output`, of both kinds, in order of their ids."""
    root = SweepPaths(output).submissions
    try:
        names = sorted(entry.name for entry in root.iterdir())
    except FileNotFoundError:
        return []
    return [SweepPaths(output).submission(name) for name in names]


def has_submission(output: Path, kind: SubmissionKind) -> bool:
    """Whether anything of that kind was submitted from `output`. RecordError as below."""
    return any(read_submission_document(paths, kind) for paths in list_submissions(output))


def read_submission_document(paths: SubmissionPaths, kind: SubmissionKind) -> dict[str, Any] | None:
    """The record in `paths`; None where it is absent, or of the other kind.

    RecordError where it cannot be read, or another version of papergrid wrote it.
    """
    try:
        document = read_json(paths.record)
    except FileNotFoundError:
        return None
    found = document.get("kind")
    # A record without a known kind may be of this kind, from another version.
    if found == kind or found not in get_args(SubmissionKind):
        refuse_foreign_schema(paths.record, document)
    return document if found == kind else None
