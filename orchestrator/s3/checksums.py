"""SHA-256 of files and objects, and what to report where they differ.

An ETag is no substitute: under multipart upload or KMS encryption it is not the MD5 of the content.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

from merge.errors import BucketUnavailableError, RecordError

SHA256_KEY = "papergrid-sha256"
"""The key of the user metadata that holds an object's SHA-256, in hex digits."""
MAX_READS = 5
"""Of one object whose content differs each time."""


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of `data` in hex digits, as object metadata holds it."""
    return hashlib.sha256(data).hexdigest()


def sha256_base64(data: bytes) -> str:
    """The SHA-256 of `data` in base64, as S3's `ChecksumSHA256` parameters take it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file in hex digits, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_mismatch(object_url: str, expected: str, found: str) -> None:
    """RecordError, with the fix, unless the two SHA-256 values are equal."""
    if found != expected:
        raise RecordError(mismatch(object_url, expected, found))


def read_until_sure(read: Callable[[], str], expected: str | None) -> str:
    """The SHA-256 that `read` finds: the `expected` one, or another one that it finds twice.

    Bytes that are flipped on the way differ each time. BucketUnavailableError where they go on to.
    """
    others: set[str] = set()
    for _ in range(MAX_READS):
        found = read()
        if expected in (None, found) or found in others:
            return found
        others.add(found)
    raise differs_each_time()


def differs_each_time() -> BucketUnavailableError:
    """The error for an object that MAX_READS readings found different."""
    return BucketUnavailableError(
        "what is read from the bucket differs each time, so something on the way damages it: check "
        "the network, then run the same command again"
    )


def mismatch(object_url: str, expected: str, found: str) -> str:
    """The message for an object whose bytes are not those that its writer stored."""
    return (
        f"{object_url} is damaged: the SHA-256 of its content is {found[:16]}..., its metadata "
        f"says {expected[:16]}...; remove that object and push it again from the machine that has "
        f"the original file"
    )


def removed_meanwhile(object_url: str) -> RecordError:
    """The error for an object that was listed and is gone now."""
    return RecordError(f"{object_url} was removed during this command: run the same command again")
