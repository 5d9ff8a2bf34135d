"""Atomic files: temporary name in the same folder, fsync, rename, fsync of the folder.

A reader sees the old file, the new file or no file; never a part of one, whatever is killed when.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from merge.errors import StorageError

TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY = re.compile(r"\.(.+\.\d+\.[0-9a-f]{8}|[0-9a-f]{16})\.tmp")

_REFUSALS = {
    errno.ENOSPC: "the disk is full: free some space, then run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space, then run the same command again",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission denied: choose a folder you may write to",
    errno.EPERM: "not permitted: choose a folder you may write to",
    errno.EEXIST: "a part of this path is a file, not a folder: choose another folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder: choose another folder",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full, read-only or forbidden file system into a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        reason = _REFUSALS.get(error.errno or 0)
        if reason is None:
            raise
        raise StorageError(f"cannot write {path}: {reason}") from error


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Replace `path` by what `write(file)` writes; all of it or nothing."""
    with storage_errors(path):
        temporary = write_temporary(path, write)
        try:
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


def write_exclusive(path: Path, write: Callable[[IO[bytes]], object]) -> bool:
    """Create `path` with all its content, or return False, untouched, where it already exists.

    By hard link from a finished temporary file: exactly one of several writers wins, also on NFS.
    """
    with storage_errors(path):
        temporary = write_temporary(path, write)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # An NFS server may have made the link and lost the reply: two links say it is ours.
            won = temporary.stat().st_nlink == 2
        else:
            won = True
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)
        return won


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically by `data`."""
    write_atomic(path, lambda file: file.write(data))


def move_into_place(finished: Path, path: Path) -> None:
    """Replace `path` by the file `finished` of the same file system, durably."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with finished.open("rb") as file:
            os.fsync(file.fileno())
        finished.replace(path)
        fsync_folder(path.parent)


def publish_folder(parent: Path, fill: Callable[[Path], str]) -> Path:
    """Make a folder below `parent` of what `fill(folder)` writes; all of it or nothing.

    `fill` returns its name. A folder of that name that is there already stays as it is.
    """
    with storage_errors(parent):
        temporary = parent / f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        temporary.mkdir(parents=True)
        try:
            path = parent / fill(temporary)
            _fsync_below(temporary)
            _rename_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        fsync_folder(parent)
    return path


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that we write before it has its own."""
    return _TEMPORARY.fullmatch(name) is not None


def write_temporary(
    path: Path, write: Callable[[IO[bytes]], object], *, makes_folder: bool = True
) -> Path:
    if makes_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    temporary = path.parent / name
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(root: Path) -> None:
    """Make a folder and all below it durable, before a rename makes it visible.

    Without this a power cut could leave a whole-looking folder of empty files.
    """
    for path in (root, *root.rglob("*")):
        fsync_folder(path)


def _fsync_below(folder: Path) -> None:
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(root, name)
            if not path.is_symlink():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        fsync_folder(Path(root))


def _rename_folder(old: Path, new: Path) -> None:
    try:
        old.rename(new)
    except OSError as error:
        # What is there already stays.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
