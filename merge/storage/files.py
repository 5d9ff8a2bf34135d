"""Atomic files: temporary name in the same folder, fsync, rename, fsync of the folder.

A reader sees the old file, the new file or no file; never a part of one, whatever is killed when.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from merge.errors import RecordError, StorageError

Json = dict[str, Any] | list[Any] | str | int | float | bool | None

TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY = re.compile(r"\.(.+\.\d+\.[0-9a-f]{8}|[0-9a-f]{16})\.tmp")

_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True)
_STALE_PATIENCE = 10
_LARGEST = int(sys.float_info.max)

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
        temporary = _write_temporary(path, write)
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
        temporary = _write_temporary(path, write)
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


def write_json(path: Path, value: Json) -> None:
    """Replace `path` atomically by `value` as indented JSON."""
    write_atomic(path, _json_writer(value))


def write_json_exclusive(path: Path, value: Json) -> bool:
    """Create `path` with `value` as JSON, or return False where it already exists."""
    return write_exclusive(path, _json_writer(value))


def read_json(path: Path, label: str | None = None) -> dict[str, Any]:
    """The JSON object in `path`. RecordError names the file, as `label`, and what is wrong with it.

    FileNotFoundError passes through: a file that is absent is no damaged file.
    """
    try:
        data = _read_whole(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{label or path} cannot be read ({error.strerror})") from error
    return parse_json(label or path, data)


def parse_json(path: Path | str, data: bytes) -> dict[str, Any]:
    """The JSON object that `data` is; RecordError, which names `path`, where it is none."""
    try:
        text = data.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\ud" in text or "\\uD" in text:
            value = _encodable(value)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise RecordError(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically by `data`."""
    write_atomic(path, lambda file: file.write(data))


def canonical_json(value: Json) -> bytes:
    """One byte string for one value: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def compact_json(value: Json) -> bytes:
    """`value` in one line that a person can read: sorted keys, no NaN."""
    return _COMPACT.encode(value).encode("utf-8")


def is_finite_number(value: object) -> bool:
    """Whether `value` is a float or an int (no bool) that a float can hold; no NaN or infinity."""
    if isinstance(value, float):
        return math.isfinite(value)
    # JSON allows whole numbers of any length.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


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
            _write_temporary(folder / "disturbed", lambda _: None, makes_folder=False).unlink()
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
        probe = _write_temporary(folder / "clock", lambda file: file.write(b"\n"))
        try:
            return probe.stat().st_mtime
        except FileNotFoundError as error:
            raise StorageError(f"{probe} vanished: stop whatever removes files there") from error
        finally:
            probe.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that we write before it has its own."""
    return _TEMPORARY.fullmatch(name) is not None


def open_at_once(path: Path) -> IO[bytes]:
    """Open `path` to read it; where a pipe lies there, without waiting for whoever writes to it."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    return open(path, "rb", opener=opener)


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


def _read_whole(path: Path) -> bytes:
    for _ in range(_STALE_PATIENCE):
        try:
            return _read_at_once(path)
        except OSError as error:
            # On NFS: another host has replaced the file between our open and our read.
            if error.errno != errno.ESTALE:
                raise
            fresh_names(path.parent)
    return _read_at_once(path)


def _read_at_once(path: Path) -> bytes:
    with open_at_once(path) as file:
        return file.read() or b""


def _write_temporary(
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


def _json_writer(value: Json) -> Callable[[IO[bytes]], object]:
    # Encoded before the file exists, so that a value which is no JSON leaves no trace.
    data = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
    return lambda file: file.write(data)


def _encodable(value: Json) -> Json:
    """`value` with `?` for halves of surrogate pairs: JSON can escape them, no file can hold them.

    Python makes them of file names that are not UTF-8.
    """
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case list():
            return [_encodable(one) for one in value]
        case dict():
            return {str(_encodable(key)): _encodable(one) for key, one in value.items()}
        case _:
            return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is larger than any number here")
    return value
