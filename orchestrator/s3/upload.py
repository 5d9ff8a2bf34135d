"""Sending a file: at once where it is small, in parts that survive an interruption where not.

What is sent is the file as it was when it was opened: checkpoints are replaced by renaming and logs
only grow, so an open descriptor and a length name unchanging bytes.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.storage.json_files import read_json, write_json
from merge.storage.paths import SyncPaths
from orchestrator.s3.bucket import NO_UPLOAD, SHA256_KEY, Bucket, RefusedError, condition, plain

PART_SIZE = 8 * 2**20
_MOST_PARTS = 10_000
_PARTS_AT_ONCE = 4
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The bytes that an open file had when it was opened."""

    descriptor: int
    size: int

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start`. RecordError where the file has become shorter since."""
        data = os.pread(self.descriptor, length, start)
        if len(data) != length:
            raise RecordError("a file became shorter while it was sent: it will be sent again")
        return data

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for start in range(0, self.size, _CHUNK):
            digest.update(self.read(start, min(_CHUNK, self.size - start)))
        return digest.hexdigest()


@contextmanager
def snapshot(path: Path) -> Iterator[Snapshot]:
    """The file `path` as it is now, until the end of the block."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield Snapshot(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file on its way to the object `name`."""

    bucket: Bucket
    name: str
    source: Snapshot
    sha256: str
    only_if: str | None
    """The condition of the write, as `Bucket.put` takes it."""
    notes: SyncPaths
    """Where an upload in parts is noted, so that the next command goes on with it."""

    def send(self) -> str | None:
        """The new object's etag; None where the condition was not met: look again."""
        if self.source.size <= PART_SIZE:
            data = self.source.read(0, self.source.size)
            return self.bucket.put(self.name, data, only_if=self.only_if)
        upload_id, there = self._resume()
        with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
            numbers = range(1, self._num_parts + 1)
            parts = list(pool.map(lambda n: self._part(n, upload_id, there.get(n)), numbers))
        return self._complete(upload_id, parts)

    @property
    def _part_size(self) -> int:
        smallest = -(-self.source.size // _MOST_PARTS)
        return PART_SIZE * max(1, -(-smallest // PART_SIZE))

    @property
    def _num_parts(self) -> int:
        return -(-self.source.size // self._part_size)

    @property
    def _note(self) -> Path:
        place = f"{self.bucket.target.endpoint_url} {self.bucket.target.url} {self.name}"
        return self.notes.upload(hashlib.sha256(place.encode()).hexdigest()[:32])

    def _resume(self) -> tuple[str, dict[int, dict[str, Any]]]:
        """The upload to go on with, and its parts that are there already, by number."""
        noted = self._noted()
        if noted and noted.get("sha256") == self.sha256:
            there = self._parts_of(noted["upload_id"])
            if there is not None:
                return noted["upload_id"], there
        elif noted:
            self._abort(noted["upload_id"])
        answer = self._call(
            "CreateMultipartUpload",
            self.bucket.client.create_multipart_upload,
            ChecksumAlgorithm="SHA256",
            Metadata={SHA256_KEY: self.sha256},
            **self.bucket.encryption,
        )
        upload_id = str(answer["UploadId"])
        write_json(self._note, {"name": self.name, "upload_id": upload_id, "sha256": self.sha256})
        return upload_id, {}

    def _noted(self) -> dict[str, Any] | None:
        try:
            return read_json(self._note)
        except FileNotFoundError:
            return None

    def _parts_of(self, upload_id: str) -> dict[int, dict[str, Any]] | None:
        parts: dict[int, dict[str, Any]] = {}
        more: dict[str, int] = {}
        try:
            while True:
                page = self._call(
                    "ListParts", self.bucket.client.list_parts, UploadId=upload_id, **more
                )
                parts.update({part["PartNumber"]: part for part in page.get("Parts", [])})
                if not page.get("IsTruncated"):
                    return parts
                more = {"PartNumberMarker": page["NextPartNumberMarker"]}
        except RefusedError as refused:
            if refused.code == NO_UPLOAD:
                return None
            raise refused.told from refused

    def _part(self, number: int, upload_id: str, there: dict[str, Any] | None) -> dict[str, Any]:
        start = (number - 1) * self._part_size
        data = self.source.read(start, min(self._part_size, self.source.size - start))
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        if there is None or not _is_same(there, data, checksum):
            self.bucket.bandwidth.take(len(data))
            there = self._call(
                "UploadPart",
                self.bucket.client.upload_part,
                UploadId=upload_id,
                PartNumber=number,
                Body=data,
                ChecksumSHA256=checksum,
            )
        told = {"ChecksumSHA256": checksum} if there.get("ChecksumSHA256") else {}
        return {"PartNumber": number, "ETag": there["ETag"], **told}

    def _complete(self, upload_id: str, parts: list[dict[str, Any]]) -> str | None:
        try:
            etag = self.bucket.conditionally(
                "CompleteMultipartUpload",
                self.name,
                self.bucket.client.complete_multipart_upload,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                **condition(self.only_if),
            )
        except RefusedError as refused:
            if refused.code != NO_UPLOAD:
                raise refused.told from refused
            etag = None
        if etag is None:
            self._abort(upload_id)
        self._note.unlink(missing_ok=True)
        return plain(etag) if etag else None

    def _abort(self, upload_id: str) -> None:
        try:
            self._call(
                "AbortMultipartUpload",
                self.bucket.client.abort_multipart_upload,
                UploadId=upload_id,
            )
        except RefusedError as refused:
            if refused.code != NO_UPLOAD:
                raise refused.told from refused

    def _call(
        self, operation: str, function: Callable[..., dict[str, Any]], **words: object
    ) -> dict[str, Any]:
        key = self.bucket.target.url.key(self.name)
        return self.bucket.call(operation, self.name, function, Key=key, **words)


def _is_same(there: dict[str, Any], data: bytes, checksum: str) -> bool:
    """Whether a part in the store holds `data`: by its SHA-256, else by its MD5 etag."""
    if there["Size"] != len(data):
        return False
    if told := there.get("ChecksumSHA256"):
        return bool(told == checksum)
    return plain(there["ETag"]) == hashlib.md5(data, usedforsecurity=False).hexdigest()
