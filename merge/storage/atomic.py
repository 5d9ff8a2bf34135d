"""Atomic files: temporary name in the same folder, fsync, rename, fsync of the folder.

A reader sees the old file, the new file or no file; never a part of one, no matter when the writer
is killed. When a function returns, a power cut cannot undo it: a new folder's own entry in the
folder above is durable too.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from merge.errors import StorageError
from merge.storage.disk import SYSTEM_DISK, Disk, Write, discard_tree

TEMPORARY_SUFFIX = ".tmp"
# The two forms of names that `write_temporary` and `publish_folder` make. It must match nothing
# else: a merge removes files with such names.
_TEMPORARY = re.compile(r"\.(.+\.\d+\.[0-9a-f]{8}|[0-9a-f]{16})\.tmp")

_REFUSALS = {
    errno.ENOSPC: "the disk is full: free some space, then run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space, then run the same command again",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission denied: choose a folder you may write to",
    errno.EPERM: "not permitted: choose a folder you may write to",
    errno.EEXIST: "a part of this path is a file, not a folder: choose another folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder: choose another folder",
    errno.EIO: "input/output error of the disk or the file server: look for its cause with "
    "`dmesg`, then run the same command again",
    errno.ESTALE: "the file server no longer knows this folder (stale file handle): run the same "
    "command again, after mounting it again if that stays",
    errno.ETIMEDOUT: "the file server does not answer: run the same command again when it does",
    errno.EMFILE: "too many open files in this process: raise `ulimit -n`, then run the same "
    "command again",
    errno.ENFILE: "too many open files on this machine: close some, then run the same command "
    "again",
    errno.ENAMETOOLONG: "the name is too long: choose an output folder with a shorter path",
    errno.EFBIG: "the file is larger than `ulimit -f` or the file system allows: raise that limit",
}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn any refusal or failure of the file system into a StorageError that names `path`.

    FileNotFoundError passes through: what it means depends on what the caller does.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        # Without a number it is of Python's own making, and no failure of a file system.
        if error.errno is None:
            raise
        raise StorageError(f"cannot write {path}: {refusal_text(error)}", path=path) from error


def refusal_text(error: OSError) -> str:
    """What the file system says with `error`, and what to do about it."""
    known = _REFUSALS.get(error.errno or 0)
    return known or f"{error.strerror or error}: run the same command again"


def write_atomic(path: Path, write: Write, disk: Disk = SYSTEM_DISK) -> None:
    """Replace `path` by what `write(file)` writes; all of it or nothing."""
    with storage_errors(path):
        folders = disk.make_folder(path.parent)
        temporary = write_temporary(path, write, disk)
        try:
            disk.rename(temporary, path)
        except BaseException:
            _discard(temporary, disk)
            raise
        _fsync_entries(path.parent, folders, disk)


def write_exclusive(
    path: Path, write: Write, disk: Disk = SYSTEM_DISK, *, fsyncs_folder: bool = True
) -> bool:
    """Create `path` with all its content, or return False, untouched, where it already exists.

    By hard link from a finished temporary file: exactly one of several writers wins, also on NFS.
    Without `fsyncs_folder` the name is durable only after the next write into the same folder,
    which saves 1 to 2 ms; it is for a caller that makes that write before anything relies on it.
    """
    with storage_errors(path):
        folders = disk.make_folder(path.parent)
        temporary = write_temporary(path, write, disk)
        try:
            disk.link(temporary, path)
        except FileExistsError:
            # An NFS server may have made the link and lost the reply: two links say it is ours.
            won = disk.status(temporary).st_nlink == 2
        else:
            won = True
        finally:
            _discard(temporary, disk)
        if fsyncs_folder:
            disk.fsync(path.parent)
        _fsync_above(folders, disk)
        return won


def write_bytes(path: Path, data: bytes, disk: Disk = SYSTEM_DISK) -> None:
    """Replace `path` atomically by `data`."""
    write_atomic(path, lambda file: file.write(data), disk)


def move_into_place(finished: Path, path: Path) -> None:
    """Replace `path` by the file `finished` of the same file system, durably."""
    with storage_errors(path):
        folders = SYSTEM_DISK.make_folder(path.parent)
        SYSTEM_DISK.fsync(finished)
        SYSTEM_DISK.rename(finished, path)
        _fsync_entries(path.parent, folders, SYSTEM_DISK)


def publish_folder(parent: Path, fill: Callable[[Path], str]) -> Path:
    """Make a folder below `parent` of what `fill(folder)` writes; all of it or nothing.

    `fill` returns its name. A folder of that name that is there already stays as it is.
    """
    with storage_errors(parent):
        temporary = parent / f".{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        folders = SYSTEM_DISK.make_folder(parent)
        SYSTEM_DISK.make_folder(temporary)
        try:
            path = parent / fill(temporary)
            fsync_tree(temporary)
            _rename_folder(temporary, path)
        finally:
            # Does nothing after a successful rename. Else the folder of that name existed already.
            discard_tree(temporary)
        _fsync_entries(parent, folders, SYSTEM_DISK)
    return path


def make_folder(folder: Path) -> None:
    """Create `folder` and what is missing above it, durably. StorageError where it is refused."""
    with storage_errors(folder):
        # One that is there already may be one that may be written but not opened to fsync it.
        if above := SYSTEM_DISK.make_folder(folder):
            _fsync_entries(folder, above, SYSTEM_DISK)


def remove_file(path: Path) -> None:
    """Remove `path` where it is there. StorageError where that is refused."""
    with storage_errors(path):
        _discard(path, SYSTEM_DISK)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that we write before it has its own."""
    return _TEMPORARY.fullmatch(name) is not None


def write_temporary(path: Path, write: Write, disk: Disk) -> Path:
    """A durable file of a temporary name beside `path`, in a folder that is there."""
    # Process id and random part: pids of two hosts on one shared folder can be equal.
    name = f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    temporary = path.parent / name
    try:
        disk.create(temporary, write)
    except BaseException:
        _discard(temporary, disk)
        raise
    return temporary


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    SYSTEM_DISK.fsync(folder)


def fsync_tree(root: Path) -> None:
    """Make a folder and all below it durable, before a rename makes it visible.

    Without this a power cut could leave a whole-looking folder of empty files.
    """
    # From the leaves up: a folder's fsync makes the names in it durable, not their content.
    for folder, _, names in os.walk(root, topdown=False):
        for path in (Path(folder, name) for name in names):
            # What a link leads to is not ours, and may not be there.
            if not path.is_symlink():
                SYSTEM_DISK.fsync(path)
        SYSTEM_DISK.fsync(Path(folder))


def _fsync_entries(folder: Path, above: tuple[Path, ...], disk: Disk) -> None:
    """Make the entries of `folder` durable, and its own where it is new: those in `above`.

    The folders above come last: on a journaling file system the first fsync has committed their
    entries too, so that each of these only flushes the device (1.3 ms on a virtual disk with ext4).
    A folder that another process has just made is left to that process.
    """
    disk.fsync(folder)
    _fsync_above(above, disk)


def _fsync_above(above: tuple[Path, ...], disk: Disk) -> None:
    for parent in reversed(above):
        # A folder that may be written but not listed cannot be opened for this.
        with suppress(PermissionError):
            disk.fsync(parent)


def _discard(path: Path, disk: Disk) -> None:
    with suppress(FileNotFoundError):
        disk.unlink(path)


def _rename_folder(old: Path, new: Path) -> None:
    try:
        SYSTEM_DISK.rename(old, new)
    except OSError as error:
        # What is there already stays.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
