"""The files of a run in the output folder: which are synced, and what is left out, with the reason.

Links are followed where a merge or a trainer follows them too: the files that papergrid knows
(results, records, logs, checkpoints) wherever they lead, others within the output folder. A link of
another name may lead to any file of this machine, so it is left out, and reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from merge.records.sweep import Run
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.sync.report import SyncIssue
from orchestrator.sync.selection import is_synced

_KNOWN_FOLDERS = frozenset({RunPaths(Path()).checkpoints.name, RunPaths(Path()).attempts.name})
"""Folders of a run that are often links to a disk with more room."""
_FIX = "put a copy in place of the link, or leave it out with --exclude"


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """The files of one run that are here."""

    names: tuple[str, ...]
    """Below the output folder, sorted."""
    left_out: tuple[SyncIssue, ...]
    """Links and special files that are not synced."""


def local_files(output: Path, run: Run) -> LocalFiles:
    """All files of `run` in the output folder that may be synced, and those that are left out."""
    walk = _Walk(output, SweepPaths(output).run(run.path).root)
    names = sorted(walk.names(walk.root))
    return LocalFiles(tuple(names), tuple(sorted(walk.left_out, key=lambda issue: issue.name)))


def link_problem(output: Path, run: Run, name: str) -> str | None:
    """Why the file `name` of `run` cannot be fetched to its place; None where it can.

    No object may be written through a link out of the output folder, and none in place of a link
    whose file is away: the result that it stands for is not replaced.
    """
    walk = _Walk(output, SweepPaths(output).run(run.path).root)
    path = output / name
    for folder in (parent for parent in path.parents if parent.is_relative_to(walk.root)):
        if folder != walk.root and folder.is_symlink() and (reason := walk.folder_problem(folder)):
            return reason
    if path.is_symlink() and not path.exists():
        return _dangling(path)
    return None


class _Walk:
    """One look at the folder of a run."""

    def __init__(self, output: Path, root: Path) -> None:
        self.root = root
        self.left_out: list[SyncIssue] = []
        self._output = output
        self._real_output = output.resolve()

    def names(self, folder: Path) -> Iterator[str]:
        """The files below `folder` that may be synced; the rest goes to `left_out`."""
        for entry in self._entries(folder):
            path = Path(entry.path)
            name = path.relative_to(self._output).as_posix()
            if not is_synced(name):
                continue
            if entry.is_file(follow_symlinks=False):
                yield name
            elif entry.is_dir(follow_symlinks=False):
                yield from self.names(path)
            elif problem := self._problem(path):
                self.left_out.append(SyncIssue(name, problem))
            elif path.is_dir():
                yield from self.names(path)
            else:
                yield name

    def _problem(self, path: Path) -> str | None:
        """Why a link or a special file is left out; None where it is synced."""
        if not path.is_symlink():
            return "is no regular file (a pipe, socket or device): remove it, or use --exclude"
        if not path.exists():
            return _dangling(path)
        if path.is_dir():
            return self.folder_problem(path)
        if not path.is_file():
            return f"is a link to {path.readlink()}, which is no regular file: remove it"
        if self._is_known(path) or self._is_inside(path):
            return None
        return f"is a link to {path.readlink()}, outside of the output folder: {_FIX}"

    def folder_problem(self, path: Path) -> str | None:
        """Why a link to a folder is not followed; None where it is."""
        if not path.exists():
            return _dangling(path)
        first, *rest = path.relative_to(self.root).parts
        # `checkpoints`, `attempts`, and the folder of one attempt.
        if first in _KNOWN_FOLDERS and len(rest) <= 1:
            return None
        return f"{path} is a link to the folder {path.readlink()}, which is not followed: {_FIX}"

    def _is_known(self, path: Path) -> bool:
        """Whether papergrid itself reads a file of this name."""
        paths = RunPaths(self.root)
        is_record = path in (paths.result, paths.spec) or RunPaths.is_result_aside(path.name)
        below = path.relative_to(self.root).parts[0]
        return (is_record and path.parent == self.root) or below in _KNOWN_FOLDERS

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except FileNotFoundError:
            # Not begun, or removed by its trainer meanwhile.
            return []
        except PermissionError as error:
            name = folder.relative_to(self._output).as_posix()
            reason = f"cannot be listed ({error.strerror}): ask its owner to share it"
            self.left_out.append(SyncIssue(name, reason))
            return []

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._real_output)


def _dangling(path: Path) -> str:
    target = path.readlink()
    return f"{path} is a link to {target}, which is not there: restore it, or remove the link"
