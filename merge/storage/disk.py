"""The operations on files that everything below an output folder goes through.

`SystemDisk` is the only code that changes files there; tests pass a disk of their own, with the
habits of NFS and with crashes (tests/support/simulated_disk.py). What is safe to call are the
functions of `atomic`, `json_files` and `nfs`, which are made of these operations.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

Write = Callable[[IO[bytes]], object]
"""Writes the content of a file that is open for it."""


class FileStatus(Protocol):
    """The fields of os.stat_result that are used here."""

    @property
    def st_mtime(self) -> float: ...

    @property
    def st_nlink(self) -> int: ...


class Disk(Protocol):
    """File operations of one host. All raise OSError as the system calls of these names do."""

    def make_folder(self, folder: Path) -> tuple[Path, ...]:
        """Create `folder` and what is missing above it.

        Returns the folders that got a new entry, which `fsync` has to make durable.
        """
        ...

    def create(self, path: Path, write: Write) -> None:
        """Create `path`, which must be absent, by `write(file)`; its content is durable then."""
        ...

    def fsync(self, path: Path) -> None:
        """Make the content of a file, or the entries of a folder, durable."""
        ...

    def link(self, source: Path, target: Path) -> None:
        """Give `source` a second name; FileExistsError where `target` is there."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Replaces a file; a folder only where it is empty."""
        ...

    def unlink(self, path: Path) -> None: ...

    def names(self, folder: Path) -> list[str]: ...

    def read(self, path: Path) -> bytes: ...

    def status(self, path: Path) -> FileStatus: ...

    def exists(self, path: Path) -> bool: ...

    def revalidate(self, folder: Path) -> None:
        """Have a file server asked about `folder`; FileNotFoundError where it is absent."""
        ...


@dataclass(frozen=True, slots=True)
class SystemDisk:
    """The files of this host."""

    def make_folder(self, folder: Path) -> tuple[Path, ...]:
        try:
            return self._make_one(folder)
        except FileNotFoundError:
            # Once, not in a loop: /proc says ENOENT of a new entry whose folder is there.
            return (*self.make_folder(folder.parent), *self._make_one(folder))

    def _make_one(self, folder: Path) -> tuple[Path, ...]:
        try:
            folder.mkdir()
        except OSError:
            # Not FileExistsError alone: automounters and read-only servers refuse before they look.
            if not folder.is_dir():
                raise
            return ()
        return (folder.parent,)

    def create(self, path: Path, write: Write) -> None:
        with path.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())

    def fsync(self, path: Path) -> None:
        # Without O_NONBLOCK a pipe that a command left under a file's name would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            # A pipe has nothing to make durable, and refuses.
            if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def names(self, folder: Path) -> list[str]:
        return os.listdir(folder)  # noqa: PTH208

    def read(self, path: Path) -> bytes:
        with open_at_once(path) as file:
            return file.read()

    def status(self, path: Path) -> os.stat_result:
        return path.stat()

    def exists(self, path: Path) -> bool:
        return os.path.exists(path)  # noqa: PTH110 - Path.exists raises where it may not look

    def revalidate(self, folder: Path) -> None:
        # NFS checks a folder when it is opened, at one price however much is in it.
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))


SYSTEM_DISK = SystemDisk()


def open_at_once(path: Path) -> IO[bytes]:
    """Open the file `path` to read it. OSError, without waiting, where it is no regular file."""

    def opener(name: str, flags: int) -> int:
        return descriptor_at_once(name, flags)

    return open(path, "rb", opener=opener)


def descriptor_at_once(path: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of the file `path`, as `open_at_once` opens it."""
    # A pipe would keep its reader waiting for a writer, and a device such as /dev/zero never ends.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a pipe, a device or a folder, not a file", path)
    return descriptor


def open_appending(path: Path) -> int:
    """A descriptor that appends to `path`, for a file that has one writer: events, downloads."""
    SYSTEM_DISK.make_folder(path.parent)
    # 0o666, as `open` does: the default of os.open would make the file executable.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    # Of a link only the link is removed; `rmtree` refuses it.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def discard_tree(folder: Path) -> None:
    """Remove as much of `folder` as is there and may be removed."""
    shutil.rmtree(folder, ignore_errors=True)
