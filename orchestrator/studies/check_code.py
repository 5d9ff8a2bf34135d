"""The files and folders that a study names as its code."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.config.yaml_document import Notes
from orchestrator.studies.schema import StudyShape

_LARGEST_FILE = 2**20


def check_code(shape: StudyShape, study: Path, cwd: Path, notes: Notes) -> tuple[str, ...] | None:
    """What `code:` names, as seen from `cwd`, where commands start; None where it is left out.

    The study names them from its own folder. A path stays relative, so that another host, or a
    copy of the checkout, finds its own files.
    """
    if shape.code is None:
        return None
    found = []
    for index, name in enumerate(shape.code):
        path = study.resolve().parent / name
        if problem := _problem(name, path):
            notes.add(("code", index), problem)
        relative = os.path.relpath(path, cwd.resolve()).replace(os.sep, "/")
        found.append(name if Path(name).is_absolute() else relative)
    return tuple(found)


def _problem(name: str, path: Path) -> str:
    if not name.strip():
        return "is empty: name a file or a folder, such as train.py"
    if path.is_dir():
        return ""
    if not path.is_file():
        return f"there is no file or folder {path}: name it relative to the study file"
    if path.stat().st_size > _LARGEST_FILE:
        return f"{name} is larger than 1 MiB: name code here, not data"
    return ""
