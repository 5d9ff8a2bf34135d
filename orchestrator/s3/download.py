"""Downloading an object in ranges: resumable, and checked by its SHA-256."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from merge.errors import RecordError
from merge.storage.atomic import remove_file, storage_errors
from merge.storage.disk import open_appending
from orchestrator.s3.bucket import Bucket, RequestRefusedError
from orchestrator.s3.checksums import mismatch, read_until_sure, sha256_of_file
from orchestrator.s3.objects import ListedObject

RANGE_SIZE = 8 * 2**20
"""Bytes of one request."""


def download_file(bucket: Bucket, listed: ListedObject, part: Path, expected: str | None) -> str:
    """Complete the file `part` from an object and return its SHA-256 in hex digits.

    What `part` has of an earlier command is not downloaded again. RecordError where the content
    differs from the SHA-256 `expected` (then `part` is removed), or the object was replaced.
    """

    def read() -> str:
        sha256 = _complete(bucket, listed, part)
        if expected is not None and sha256 != expected:
            # Removed, else the next reading would resume from the same damaged bytes.
            remove_file(part)
        return sha256

    sha256 = read_until_sure(read, expected)
    if expected is not None and sha256 != expected:
        raise RecordError(mismatch(bucket.url(listed.name), expected, sha256))
    return sha256


def _complete(bucket: Bucket, listed: ListedObject, part: Path) -> str:
    # Appended to, not written atomically: its first bytes are what a later command resumes from.
    with storage_errors(part), os.fdopen(open_appending(part), "ab") as file:
        if file.tell() > listed.size:
            file.truncate(0)
        for data in read_ranges(bucket, listed, file.tell()):
            file.write(data)
    return sha256_of_file(part)


def read_ranges(bucket: Bucket, listed: ListedObject, start: int = 0) -> Iterator[bytes]:
    """The content of an object from byte `start`, RANGE_SIZE bytes at a time.

    RecordError where the object was replaced or removed since it was listed.
    """
    for first in range(start, listed.size, RANGE_SIZE):
        last = min(first + RANGE_SIZE, listed.size) - 1
        yield _read_range(bucket, listed, first, last)


def _read_range(bucket: Bucket, listed: ListedObject, first: int, last: int) -> bytes:
    bucket.bandwidth.acquire(last - first + 1)
    key = bucket.target.url.key(listed.name)

    def get() -> bytes:
        from botocore.exceptions import IncompleteReadError

        answer = bucket.client.get_object(
            Bucket=bucket.target.url.bucket,
            Key=key,
            Range=f"bytes={first}-{last}",
            # Else an object that is replaced meanwhile would become a mixture of two.
            IfMatch=listed.etag,
        )
        data: bytes = answer["Body"].read()
        # botocore compares with Content-Length only. A server that ignores ranges, or a proxy that
        # shortens body and header alike, passes that check.
        if len(data) != last - first + 1:
            raise IncompleteReadError(actual_bytes=len(data), expected_bytes=last - first + 1)
        return data

    try:
        return bucket.call("GetObject", listed.name, lambda **_: get())
    except RequestRefusedError as refused:
        raise RecordError(
            f"{bucket.url(listed.name)} was replaced or removed during the download: run the same "
            f"command again"
        ) from refused
