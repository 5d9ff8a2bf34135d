"""Objects as a store describes them: in a listing, and in the headers of one object."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from orchestrator.s3.answers import BrokenAnswerError, require
from orchestrator.s3.checksums import SHA256_KEY

_SHA256_HEX = re.compile(r"[0-9a-f]{64}")
_SHA256_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObject:
    """An object as a listing shows it."""

    name: str
    """Relative to the place in the bucket: the name of its file below the output folder."""
    size: int
    """Bytes."""
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHead:
    """An object's metadata."""

    size: int
    """Bytes."""
    etag: str
    sha256: str | None
    """As its writer stored it, in hex digits; None where papergrid did not write it."""
    server_sha256: str | None
    """As the server computed it over the whole object; None where the server does not."""
    modified: datetime
    """When it was written, by the server's own clock."""
    age_s: float
    """Seconds from then to the time of the answer, which a proxy may have changed: negative where
    its clock is behind."""

    @property
    def best_sha256(self) -> str | None:
        """The server's own SHA-256, which is of the stored bytes; else the writer's."""
        return self.server_sha256 or self.sha256

    def fits(self, sha256: str) -> bool:
        """Whether all that is known of the content agrees with its SHA-256."""
        return sha256 == self.sha256 and self.server_sha256 in (None, sha256)


def head_of(answer: Mapping[str, Any]) -> ObjectHead:
    """The metadata in an answer to HEAD or GET. BrokenAnswerError where something is missing."""
    require(answer, "ETag", "LastModified", "ContentLength")
    # HTTP header names have no case: servers and proxies may change that of metadata keys.
    metadata = {key.lower(): value for key, value in answer.get("Metadata", {}).items()}
    sha256 = metadata.get(SHA256_KEY)
    if sha256 is not None and not _SHA256_HEX.fullmatch(sha256):
        raise BrokenAnswerError("the SHA-256 in its metadata is damaged")
    # The server's own clock says how old the object is: no two hosts' clocks are compared.
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        raise BrokenAnswerError("it has no Date")
    age_s = (parsedate_to_datetime(date) - answer["LastModified"]).total_seconds()
    return ObjectHead(
        size=answer["ContentLength"],
        etag=unquoted(answer["ETag"]),
        sha256=sha256,
        modified=answer["LastModified"],
        age_s=age_s,
        server_sha256=_whole_sha256(answer.get("ChecksumSHA256", "")),
    )


def unquoted(etag: str) -> str:
    """An ETag without its quotes: some answers have them, some have not, and we compare ETags."""
    return etag.strip('"')


def _whole_sha256(checksum: str) -> str | None:
    # Of a multipart upload the server has a checksum of the parts' checksums, marked by a dash and
    # the number of parts. It is not a checksum of the content.
    if not checksum or "-" in checksum:
        return None
    digest = base64.b64decode(checksum, validate=True)
    if len(digest) != _SHA256_BYTES:
        raise BrokenAnswerError("its checksum is damaged")
    return digest.hex()
