"""JSON in files, and the one text of a value: strict on both ways, no NaN, no infinity."""

from __future__ import annotations

import errno
import json
import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

from merge.errors import RecordError, UnreadableError
from merge.storage.atomic import refusal_text, write_atomic, write_exclusive
from merge.storage.disk import SYSTEM_DISK, Disk, Write
from merge.storage.nfs import read_whole

Json = dict[str, Any] | list[Any] | str | int | float | bool | None

# Made once: `json.dumps` with arguments makes a new encoder at each call.
_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True)
# JSON has whole numbers of any length; a larger one cannot become a float (OverflowError).
_LARGEST = int(sys.float_info.max)
_LARGE_FILE = 1_000_000
"""Bytes that `json` takes 10 ms to read."""
_NOT_READABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}
)
"""Of the file itself; all else is the file system's failure, and the file may be in order."""


def write_json(path: Path, value: Json, disk: Disk = SYSTEM_DISK) -> None:
    """Replace `path` atomically by `value` as indented JSON."""
    write_atomic(path, _json_writer(value), disk)


def write_json_exclusive(
    path: Path, value: Json, disk: Disk = SYSTEM_DISK, *, fsyncs_folder: bool = True
) -> bool:
    """Create `path` with `value` as JSON, or return False where it already exists.

    `fsyncs_folder` as in `write_exclusive`.
    """
    return write_exclusive(path, _json_writer(value), disk, fsyncs_folder=fsyncs_folder)


def read_json(path: Path, label: str | None = None, disk: Disk = SYSTEM_DISK) -> dict[str, Any]:
    """The JSON object in `path`. RecordError names the file, as `label`, and what is wrong with it.

    UnreadableError, a RecordError, where the file system fails to give it. FileNotFoundError passes
    through: a file that is absent is no damaged file.
    """
    try:
        data = read_whole(path, disk)
    # FileNotFoundError is an OSError too: without this clause an absent file would be called
    # damaged.
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _NOT_READABLE:
            message = f"{label or path} cannot be read ({error.strerror})"
            raise RecordError(message, path=path) from error
        message = f"cannot read {label or path}: {refusal_text(error)}"
        raise UnreadableError(message, path=path) from error
    return parse_json(label or path, data)


def parse_json(path: Path | str, data: bytes, *, may_repeat_keys: bool = True) -> dict[str, Any]:
    """The JSON object that `data` is. RecordError, which names `path` or an object's URL.

    An object that names a key twice is refused; `may_repeat_keys` is False where a digest has
    shown that `data` is as papergrid wrote it.
    """
    value = _parse_fast(data, may_repeat_keys)
    if isinstance(value, dict):
        return value
    file = path if isinstance(path, Path) else None
    try:
        text = data.decode("utf-8")
        value = _decoder().decode(text)
        # A look at the text is cheap; walking through every value of every result is not.
        if "\\ud" in text or "\\uD" in text:
            value = _encodable(value)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is not valid JSON ({error})", path=file) from error
    if not isinstance(value, dict):
        raise RecordError(f"{path} holds a JSON {type(value).__name__}, not an object", path=file)
    return value


def _parse_fast(data: bytes, may_repeat_keys: bool) -> Json:
    """The value of `data`, or None where the strict parser has to decide, or to say what is wrong.

    msgspec reads 2 to 3 times as fast as `json`. What it accepts it reads to the same value; it
    refuses more: single surrogates, and numbers that no float holds. Importing it costs 12 ms,
    which only a large file saves; the many small files of a large sweep come after its large plan.
    """
    if len(data) < _LARGE_FILE and "msgspec" not in sys.modules:
        return None
    import msgspec

    try:
        value: Json = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None
    return None if may_repeat_keys and _has_repeated_keys(data, value) else value


def _has_repeated_keys(data: bytes, value: Json) -> bool:
    """Whether an object in `data`, which was read to `value`, names a key twice, or may.

    msgspec keeps the last of equal keys. Encoded again, the value then has fewer quotation marks
    than the text had. Escaped ones (`\\u0022`) would upset the count: the strict parser decides.
    """
    import msgspec

    # This takes half as long as the parsing; a hook of `json` for each object takes three times it.
    return b"\\u0022" in data or data.count(b'"') != msgspec.json.encode(value).count(b'"')


@cache
def _decoder() -> json.JSONDecoder:
    # `json.loads` with these arguments makes a decoder each time: a tenth of reading a small file.
    return json.JSONDecoder(
        parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_unique_keys
    )


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object names {repeated!r} twice: remove one of the two")
    return found


def canonical_json(value: Json) -> bytes:
    """One byte string for one value: sorted keys, no spaces, no NaN."""
    # Hashes of configurations are made from this text: any change of it would make every existing
    # result foreign.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def compact_json(value: Json) -> bytes:
    """`value` in one line that a person can read: sorted keys, no NaN."""
    return _encoded(compact_text(value))


def compact_text(value: Json) -> str:
    """The text of `compact_json`."""
    return _COMPACT.encode(value)


def is_finite_number(value: object) -> bool:
    """Whether `value` is a float or an int (no bool) that a float can hold; no NaN or infinity."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _json_writer(value: Json) -> Write:
    # Encoded before the file exists, so that a value which is no JSON leaves no trace.
    data = _encoded(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + b"\n"
    return lambda file: file.write(data)


def _encoded(text: str) -> bytes:
    # Python makes single surrogates of file names that are not UTF-8; JSON can escape them.
    return text.encode("utf-8", "backslashreplace")


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
