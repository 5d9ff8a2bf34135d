"""Which code makes the numbers: a digest of the trainers' sources, and the commit they lie in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NotRequired, TypedDict

from merge.records.sweep import Run
from orchestrator.studies.options import EXPERIMENTS
from orchestrator.studies.study import Study

_GIT_TIMEOUT_S = 10.0
_LARGEST_SCRIPT = 2**20


class CodeVersion(TypedDict):
    """What a plan and a result record about the code."""

    version: str | None
    """Of papergrid; None where it is not installed."""
    source: str
    """16 hex digits over the files that compute the numbers."""
    git_commit: str | None
    """None outside of a git checkout, or where git is absent."""
    git_dirty: bool | None
    """Whether the trainers' folder differs from that commit."""
    git_diff: str | None
    """16 hex digits over how it differs; None where it does not."""
    snapshot: NotRequired[str]
    """The frozen copy that was run, where it was one."""


def code_version(
    study: Study | Run, experiments_folder: Path = EXPERIMENTS, cwd: Path | None = None
) -> CodeVersion:
    """The version of the code that `study`, or one run of its plan, runs.

    Of an experiment: all sources of the data plane. Of a command: those of its words that name
    files of at most 1 MiB (larger ones are data), as seen from `cwd` (default: the current folder).
    """
    if study.command is None:
        folder = experiments_folder
        sources = dict(_data_plane(folder))
    else:
        folder = cwd or Path.cwd()
        sources = {word: folder / word for word in study.command if is_script(folder / word)}
    commit, is_dirty = _git_state(folder)
    changes = _git_bytes(folder, "diff", "HEAD", "--binary", "--", ".") if is_dirty else None
    return CodeVersion(
        version=_installed_version(),
        source=_digest(sources),
        git_commit=commit,
        git_dirty=is_dirty,
        git_diff=None if changes is None else sha256(changes).hexdigest()[:16],
    )


def code_differs(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[str, ...]:
    """What differs between two code versions, a line each; empty where numbers agree by code.

    A commit alone is no difference: it may have changed nothing that computes numbers.
    """
    return tuple(
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in ("version", "source")
        if old.get(key) != new.get(key)
    )


def _data_plane(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in (*folder.rglob("*.py"), *folder.glob("*/options.yaml")):
        yield path.relative_to(folder).as_posix(), path


def is_script(path: Path) -> bool:
    """Whether a word of a command that names `path` counts as code."""
    return path.is_file() and path.stat().st_size <= _LARGEST_SCRIPT


def _digest(sources: Mapping[str, Path]) -> str:
    digest = sha256()
    for name in sorted(sources):
        digest.update(f"{name}\0{sha256(sources[name].read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _installed_version() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("papergrid")
    except PackageNotFoundError:
        return None


def _git_state(folder: Path) -> tuple[str | None, bool | None]:
    # A folder that git ignores, such as site-packages in a checkout, has no commit of its own.
    if not _git(folder, "ls-files", "--", "."):
        return None, None
    status = _git(folder, "status", "--porcelain=v2", "--branch", "--", ".")
    if status is None:
        return None, None
    lines = status.splitlines()
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid ")]
    if not commits or commits[0] == "(initial)":
        return None, None
    return commits[0], any(not line.startswith("#") for line in lines)


def _git(folder: Path, *words: str) -> str | None:
    told = _git_bytes(folder, *words)
    # Names of files need not be UTF-8, nor what changed in them.
    return None if told is None else told.decode("utf-8", "replace")


def _git_bytes(folder: Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
            # Reading the state must not take the index lock from the person who works there.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
