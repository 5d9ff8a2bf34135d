"""Reading where other hosts write: NFS clients answer from memory, and have other clocks."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import IO

from merge.errors import RecordError, StorageError
from merge.storage.atomic import storage_errors, write_temporary

_STALE_PATIENCE = 10


def fresh_names(folder: Path) -> set[str]:
    """Names in `folder`, those that other hosts made until now included; empty where it is none.

    RecordError where it may not be looked into.

    NFS clients answer for half a minute from memory that a file is not there, also to `open`; to
    list the folder asks the server, and what is opened next is as new as the list.
    """
    try:
        return _names(folder)
    except FileNotFoundError:
        _ask_again(folder.parent)
    try:
        return _names(folder)
    except FileNotFoundError:
        return set()


def disturb(folder: Path) -> None:
    """Change `folder` and change it back, so that no client's memory of it stays valid.

    A server tells of changes by time stamps: of two within one tick (milliseconds), an NFS client
    that looked between them never learns the second. Does nothing where `folder` is not there.
    """
    try:
        with storage_errors(folder):
            write_temporary(folder / "disturbed", lambda _: None, makes_folder=False).unlink()
    except FileNotFoundError:
        _ask_again(folder)


def age_s(path: Path) -> float:
    """Seconds since `path` was written, by the clock of its file system: no host's clock counts.

    FileNotFoundError where it is gone, StorageError where nothing can be written beside it.
    """
    return clock_of(path.parent) - path.stat().st_mtime


def clock_of(folder: Path) -> float:
    """Unix time by the clock of the file system of `folder`: no host's clock counts.

    StorageError where nothing can be written there.
    """
    with storage_errors(folder):
        probe = write_temporary(folder / "clock", lambda file: file.write(b"\n"))
        try:
            return probe.stat().st_mtime
        except FileNotFoundError as error:
            raise StorageError(f"{probe} vanished: stop whatever removes files there") from error
        finally:
            probe.unlink(missing_ok=True)


def open_at_once(path: Path) -> IO[bytes]:
    """Open `path` to read it; where a pipe lies there, without waiting for whoever writes to it."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    return open(path, "rb", opener=opener)


def read_whole(path: Path) -> bytes:
    for _ in range(_STALE_PATIENCE):
        try:
            return _read_at_once(path)
        except OSError as error:
            # On NFS: another host has replaced the file between our open and our read.
            if error.errno != errno.ESTALE:
                raise
            fresh_names(path.parent)
    return _read_at_once(path)


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208
    except NotADirectoryError:
        return set()
    except PermissionError as error:
        raise RecordError(
            f"{folder} cannot be listed ({error.strerror}): ask whoever owns it to share it "
            f"(chmod -R g+rwX, and umask 002 from now on)"
        ) from error


def _ask_again(folder: Path) -> None:
    """Have the server asked for what is in `folder`, or in the nearest folder above that is there.

    To open a folder does it, at one price however much is in it.
    """
    try:
        os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
    except FileNotFoundError:
        if folder != folder.parent:
            _ask_again(folder.parent)


def _read_at_once(path: Path) -> bytes:
    with open_at_once(path) as file:
        return file.read() or b""
