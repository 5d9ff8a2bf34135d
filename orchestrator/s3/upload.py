"""Uploading a file: in one request where it is small, else a resumable multipart upload.

What is sent is the file as it was when it was opened: checkpoints are replaced by a rename and logs
only grow, so an open descriptor and a length stand for bytes that do not change.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.errors import RecordError
from merge.storage.atomic import remove_file
from merge.storage.control_paths import SyncPaths
from merge.storage.json_files import read_json, write_json
from orchestrator.s3.answers import Answer, check_parts, requiring
from orchestrator.s3.bucket import (
    NO_SUCH_UPLOAD,
    Bucket,
    RequestRefusedError,
    condition_parameters,
    refusing_other_checksum,
)
from orchestrator.s3.checksums import SHA256_KEY, sha256_base64, sha256_hex
from orchestrator.s3.objects import unquoted

PART_SIZE = 8 * 2**20
"""Bytes of a part; more for files above 10,000 parts. S3 wants at least 5 MiB."""
_MAX_PARTS = 10_000
"""S3's own limit."""
_PARTS_AT_ONCE = 4
"""So many parts of a file are in memory; a bucket's `max_concurrency` limits the requests."""
_BLOCK_SIZE = 2**20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The bytes that an open file had when it was opened."""

    descriptor: int
    size: int
    """Bytes."""

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start`. RecordError where the file has become shorter since."""
        # pread has no file position that parts sent at the same time would share.
        data = os.pread(self.descriptor, length, start)
        if len(data) != length:
            raise RecordError("a file became shorter during its upload: it is sent again later")
        return data

    def sha256(self) -> str:
        """The SHA-256 of the snapshot, in hex digits."""
        digest = hashlib.sha256()
        for start in range(0, self.size, _BLOCK_SIZE):
            digest.update(self.read(start, min(_BLOCK_SIZE, self.size - start)))
        return digest.hexdigest()


@contextmanager
def snapshot(path: Path) -> Iterator[Snapshot]:
    """The file `path` as it is now, until the end of the block. RecordError where it is no file."""
    # Not blocking: a pipe would wait for its writer.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError as error:
        reason = f"{path} cannot be read ({error.strerror}): ask its owner to share it"
        raise RecordError(reason, path=path) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RecordError(f"{path} is not a regular file: move it away", path=path)
        yield Snapshot(descriptor, status.st_size)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The upload of a file to the object `name`.

    Not s3transfer: that resumes no upload, takes no condition on a multipart upload, and retries
    inside of our retries.
    """

    bucket: Bucket
    name: str
    source: Snapshot
    sha256: str
    """Of the source, in hex digits."""
    only_if: str | None
    """The condition of the write, as `Bucket.put` takes it."""
    state_paths: SyncPaths
    """Where the id of a multipart upload is kept, so that the next command resumes it."""

    def send(self) -> str | None:
        """The new object's ETag; None where the condition does not hold: list the bucket again."""
        if self.source.size <= PART_SIZE:
            data = self.source.read(0, self.source.size)
            return self.bucket.put(self.name, data, only_if=self.only_if)
        upload_id, sent = self._resume_or_create()
        with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
            numbers = range(1, self._num_parts + 1)
            parts = list(pool.map(lambda n: self._send_part(n, upload_id, sent.get(n)), numbers))
        return self._complete(upload_id, parts)

    @property
    def _part_size(self) -> int:
        smallest = -(-self.source.size // _MAX_PARTS)
        return PART_SIZE * max(1, -(-smallest // PART_SIZE))

    @property
    def _num_parts(self) -> int:
        return -(-self.source.size // self._part_size)

    @property
    def _record_path(self) -> Path:
        key = f"{self.bucket.target.cache_key} {self.name}"
        return self.state_paths.upload(sha256_hex(key.encode())[:32])

    def _resume_or_create(self) -> tuple[str, dict[int, Answer]]:
        """The id of the upload, and the parts that it has already, by number."""
        record = self._read_record()
        if record and record.get("sha256") == self.sha256:
            sent = self._list_parts(record["upload_id"])
            if sent is not None:
                return record["upload_id"], sent
        elif record:
            # The file has changed. The store charges for parts until their upload is aborted.
            self._abort(record["upload_id"])
        return self._create(), {}

    def _create(self) -> str:
        answer = self._call(
            "CreateMultipartUpload",
            requiring(self.bucket.client.create_multipart_upload, "UploadId"),
            # Said here, else the server refuses the checksums of the parts.
            ChecksumAlgorithm="SHA256",
            Metadata={SHA256_KEY: self.sha256},
            **self.bucket.encryption_parameters,
        )
        upload_id = str(answer["UploadId"])
        record = {"name": self.name, "upload_id": upload_id, "sha256": self.sha256}
        write_json(self._record_path, record)
        return upload_id

    def _read_record(self) -> dict[str, Any] | None:
        try:
            return read_json(self._record_path)
        except FileNotFoundError:
            return None

    def _list_parts(self, upload_id: str) -> dict[int, Answer] | None:
        """The parts in the store, by number; None where there is no such upload any more."""
        parts: dict[int, Answer] = {}
        next_page: dict[str, int] = {}
        try:
            while True:
                page = self._call("ListParts", self._parts_page, UploadId=upload_id, **next_page)
                parts.update({part["PartNumber"]: part for part in page.get("Parts", [])})
                if not page.get("IsTruncated"):
                    return parts
                next_page = {"PartNumberMarker": page["NextPartNumberMarker"]}
        except RequestRefusedError as refused:
            # Completed, aborted, or removed by a lifecycle rule of the bucket.
            if refused.code == NO_SUCH_UPLOAD:
                return None
            raise refused.explained from refused

    def _parts_page(self, **parameters: object) -> Answer:
        page: Answer = self.bucket.client.list_parts(**parameters)
        check_parts(page)
        return page

    def _send_part(self, number: int, upload_id: str, sent: Answer | None) -> dict[str, Any]:
        """Send a part unless the store has the same already; its entry for the completion."""
        start = (number - 1) * self._part_size
        data = self.source.read(start, min(self._part_size, self.source.size - start))
        checksum = sha256_base64(data)
        if sent is None or not _is_same(sent, data, checksum):
            self.bucket.bandwidth.acquire(len(data))
            sent = self._call(
                "UploadPart",
                requiring(refusing_other_checksum(self.bucket.client.upload_part), "ETag"),
                UploadId=upload_id,
                PartNumber=number,
                Body=data,
                ChecksumSHA256=checksum,
            )
        # A store that ignores checksum headers refuses them in the completion too.
        checksums = {"ChecksumSHA256": checksum} if sent.get("ChecksumSHA256") else {}
        return {"PartNumber": number, "ETag": sent["ETag"], **checksums}

    def _complete(self, upload_id: str, parts: list[dict[str, Any]]) -> str | None:
        try:
            etag = self.bucket.conditional_write(
                "CompleteMultipartUpload",
                self.name,
                self.bucket.client.complete_multipart_upload,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                **condition_parameters(self.only_if),
            )
        except RequestRefusedError as refused:
            if refused.code != NO_SUCH_UPLOAD:
                raise refused.explained from refused
            # A retry after a lost answer: our first attempt may have completed the upload. The
            # caller lists the bucket again, and equal bytes there are success.
            etag = None
        if etag is None:
            self._abort(upload_id)
        remove_file(self._record_path)
        return etag

    def _abort(self, upload_id: str) -> None:
        try:
            self._call(
                "AbortMultipartUpload",
                self.bucket.client.abort_multipart_upload,
                UploadId=upload_id,
            )
        except RequestRefusedError as refused:
            if refused.code != NO_SUCH_UPLOAD:
                raise refused.explained from refused

    def _call(
        self, operation: str, function: Callable[..., Answer], **parameters: object
    ) -> Answer:
        key = self.bucket.target.url.key(self.name)
        return self.bucket.call(operation, self.name, function, Key=key, **parameters)


def _is_same(sent: Answer, data: bytes, checksum: str) -> bool:
    """Whether a part in the store holds `data`: by its SHA-256, else by its ETag, an MD5."""
    if sent["Size"] != len(data):
        return False
    if stored := sent.get("ChecksumSHA256"):
        return bool(stored == checksum)
    # Under KMS encryption a part's ETag is no MD5: then nothing is equal, and the part is resent.
    return unquoted(sent["ETag"]) == hashlib.md5(data, usedforsecurity=False).hexdigest()
