"""Fetching an object in pieces, going on where an earlier command ended, and proving what came."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from merge.errors import RecordError
from merge.storage.atomic import storage_errors
from orchestrator.s3.bucket import Bucket, RefusedError, Stored

PIECE_SIZE = 8 * 2**20
_CHUNK = 2**20


def fetch(bucket: Bucket, stored: Stored, part: Path, expected: str | None) -> str:
    """Complete the file `part` from the object `stored` and return its SHA-256.

    RecordError where the bytes are not those of `expected`, or the object was replaced meanwhile;
    `part` is removed then.
    """
    with storage_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            if file.tell() > stored.size:
                file.truncate(0)
            for data in pieces(bucket, stored, file.tell()):
                file.write(data)
    sha256 = sha256_of(part)
    if expected is not None and sha256 != expected:
        part.unlink()
        raise RecordError(damaged(bucket, stored.name, expected, sha256))
    return sha256


def pieces(bucket: Bucket, stored: Stored, start: int = 0) -> Iterator[bytes]:
    """The bytes of `stored` from `start`, a piece at a time; RecordError where it was replaced."""
    for first in range(start, stored.size, PIECE_SIZE):
        last = min(first + PIECE_SIZE, stored.size) - 1
        yield _piece(bucket, stored, first, last)


def damaged(bucket: Bucket, name: str, expected: str, found: str) -> str:
    """What to say of an object whose bytes are not those that its writer stored."""
    return (
        f"{bucket.target.url}/{name} is damaged: its SHA-256 is {found[:16]}..., stored with it is "
        f"{expected[:16]}...; remove that object and push it again from the machine that made it"
    )


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _piece(bucket: Bucket, stored: Stored, first: int, last: int) -> bytes:
    bucket.bandwidth.take(last - first + 1)
    key = bucket.target.url.key(stored.name)

    def get() -> bytes:
        from botocore.exceptions import IncompleteReadError

        answer = bucket.client.get_object(
            Bucket=bucket.target.url.bucket,
            Key=key,
            Range=f"bytes={first}-{last}",
            IfMatch=stored.etag,
        )
        data: bytes = answer["Body"].read()
        if len(data) != last - first + 1:
            raise IncompleteReadError(actual_bytes=len(data), expected_bytes=last - first + 1)
        return data

    try:
        return bucket.call("GetObject", stored.name, lambda **_: get())
    except RefusedError as refused:
        raise RecordError(
            f"{bucket.target.url}/{stored.name} was replaced or removed while it was fetched: give "
            f"the same command again"
        ) from refused
