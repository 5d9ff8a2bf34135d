"""What to ask a server for when a part of a file is there already, and what its answer means. Pure.

A part is continued only where nothing can be glued together from two versions of a file: the server
confirms by `If-Range` that the file is the one that the part began with, or the finished file is
compared with a published digest and its length already agrees.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file as one server described it when its download began; the sidecar of a part."""

    url: str
    validator: str
    """A strong ETag, or the Last-Modified date; empty where the server gave neither."""
    total_bytes: int | None
    """None where the server did not say."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the body of an accepted answer begins in the file, and what the file is."""

    offset: int
    remote: Remote


class WrongFileError(Exception):
    """The server has another file under this name: trying it again is no use."""


class WrongRangeError(Exception):
    """The answer does not continue what is there: begin anew."""


def range_headers(
    part_bytes: int, begun: Remote | None, url: str, *, has_digest: bool
) -> dict[str, str]:
    """The headers that ask for what is missing; none of them asks for the whole file."""
    if part_bytes == 0 or begun is None or begun.total_bytes is None:
        return {}
    # A server answers 416, an error, to a range that begins at or behind the end of the file.
    if part_bytes >= begun.total_bytes:
        return {}
    wanted = {"Range": f"bytes={part_bytes}-"}
    if begun.url == url and begun.validator:
        return {**wanted, "If-Range": begun.validator}
    return wanted if has_digest else {}


def read_answer(
    status: int,
    headers: Mapping[str, str],
    url: str,
    *,
    part_bytes: int,
    begun: Remote | None,
    known_bytes: int | None,
) -> Answer:
    """What an answer of status 200 or 206 holds; `headers` by lower-case name.

    WrongFileError where the file has not `known_bytes`; WrongRangeError where a 206 does not
    continue the part of `part_bytes` that was `begun`.
    """
    total: int | None
    if status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
        if match is None or int(match[1]) != part_bytes:
            raise WrongRangeError(f"asked for byte {part_bytes}, got {dict(headers)!r}")
        offset, total = part_bytes, int(match[3])
        if begun is None or begun.total_bytes != total:
            raise WrongRangeError(f"the file has {total:,} bytes now")
    else:
        length = headers.get("content-length", "")
        offset, total = 0, int(length) if length.isdecimal() else None
    if known_bytes is not None and total not in (known_bytes, None):
        raise WrongFileError(f"it has {total:,} bytes there, not {known_bytes:,}")
    return Answer(offset, Remote(url, _validator(headers), total))


def _validator(headers: Mapping[str, str]) -> str:
    etag = headers.get("etag", "")
    # A weak ETag promises equal meaning, not equal bytes.
    return etag if etag.startswith('"') else headers.get("last-modified", "")
