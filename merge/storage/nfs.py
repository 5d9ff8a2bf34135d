"""Reading where other hosts write: NFS clients answer from memory, and hosts' clocks differ.

docs/shared-folders.md says what is promised, and what was measured.
"""

from __future__ import annotations

import errno
from pathlib import Path

from merge.errors import RecordError, StorageError
from merge.storage.atomic import refusal_text, storage_errors, write_temporary
from merge.storage.disk import SYSTEM_DISK, Disk
from merge.storage.passing_failures import READ_WAITS_S, repeated

# One replacement gives one ESTALE; a heartbeat replaces a file every 10 s, so ten in a row mean
# that something else is wrong.
_NUM_STALE_READS = 10


def fresh_names(folder: Path, disk: Disk = SYSTEM_DISK) -> set[str]:
    """Names in `folder`, also those that other hosts have just created; empty if it is absent.

    RecordError where this user may not list it, StorageError where the file system fails.

    An NFS client remembers for 30 s that a file is absent, also for `open`. Listing the folder asks
    the server, and a file that is opened after that is at least as new as the list.
    """
    try:
        return _names(folder, disk)
    except FileNotFoundError:
        # That the folder is absent may be a client's memory, too: ask the server, then look again.
        _revalidate(folder.parent, disk)
    try:
        return _names(folder, disk)
    except FileNotFoundError:
        return set()


def disturb(folder: Path, disk: Disk = SYSTEM_DISK) -> None:
    """Change `folder` and change it back, so that every client asks the server about it again.

    A server marks changes by time stamps: of two within one tick (milliseconds), an NFS client
    that looked between them never learns the second. Does nothing where `folder` is not there.
    """
    try:
        with storage_errors(folder):
            disk.unlink(write_temporary(folder / "disturbed", lambda _: None, disk))
    except FileNotFoundError:
        _revalidate(folder, disk)


def age_s(path: Path, disk: Disk = SYSTEM_DISK) -> float:
    """Seconds since `path` was written, by the clock of its file system: no host's clock counts.

    FileNotFoundError where it is gone, StorageError where nothing can be written beside it.
    """
    return clock_of(path.parent, disk) - disk.status(path).st_mtime


def clock_of(folder: Path, disk: Disk = SYSTEM_DISK) -> float:
    """Unix time by the clock of the file system of `folder`: no host's clock counts.

    StorageError where nothing can be written there.
    """
    with storage_errors(folder):
        disk.make_folder(folder)
        probe = write_temporary(folder / "clock", lambda file: file.write(b"\n"), disk)
        try:
            return disk.status(probe).st_mtime
        except FileNotFoundError as error:
            raise StorageError(
                f"{probe} vanished: stop the process that removes files there", path=probe
            ) from error
        finally:
            # Asked first: `unlink` of a vanished probe would hide the StorageError above.
            if disk.exists(probe):
                disk.unlink(probe)


def read_whole(path: Path, disk: Disk = SYSTEM_DISK) -> bytes:
    """The bytes of `path`, of one version of it, also while another host replaces it.

    A failure that may pass is waited for.
    """
    return repeated(lambda: _read_one_version(path, disk), READ_WAITS_S)


def _read_one_version(path: Path, disk: Disk) -> bytes:
    for _ in range(_NUM_STALE_READS):
        try:
            return disk.read(path)
        except OSError as error:
            # On NFS: another host has replaced the file between our open and our read.
            if error.errno != errno.ESTALE:
                raise
            fresh_names(path.parent, disk)
    return disk.read(path)


def _names(folder: Path, disk: Disk) -> set[str]:
    try:
        return set(repeated(lambda: disk.names(folder), READ_WAITS_S))
    except FileNotFoundError:
        raise
    except NotADirectoryError:
        return set()
    except PermissionError as error:
        raise RecordError(
            f"{folder} cannot be listed ({error.strerror}): ask its owner to share it "
            f"(chmod -R g+rwX, and umask 002 from now on)",
            path=folder,
        ) from error
    except OSError as error:
        raise StorageError(f"cannot list {folder}: {refusal_text(error)}", path=folder) from error


def _revalidate(folder: Path, disk: Disk) -> None:
    """Have the server asked for what is in `folder`, or in the nearest folder above that exists."""
    try:
        repeated(lambda: disk.revalidate(folder), READ_WAITS_S)
    except FileNotFoundError:
        if folder != folder.parent:
            _revalidate(folder.parent, disk)
    except OSError as error:
        raise StorageError(f"cannot list {folder}: {refusal_text(error)}", path=folder) from error
