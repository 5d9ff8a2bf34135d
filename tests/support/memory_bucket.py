"""A place in a bucket, held in memory: what `Bucket` answers, and failures at chosen requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from orchestrator.s3.bandwidth import BandwidthLimit
from orchestrator.s3.bucket import ABSENT
from orchestrator.s3.checksums import sha256_hex
from orchestrator.s3.objects import ListedObject, ObjectHead
from orchestrator.s3.url import BucketTarget, parse_url

TARGET = BucketTarget(url=parse_url("s3://papers/abcb"), region="us-east-1", max_attempts=1)


class MemoryBucket:
    """Implements the requests of `Bucket` for small objects."""

    def __init__(self) -> None:
        self.target = TARGET
        self.bandwidth = BandwidthLimit(None)
        self.has_conditional_writes = True
        self.objects: dict[str, bytes] = {}
        self.failures: dict[str, BaseException] = {}
        """Name of a method -> what it raises."""
        self.calls: list[str] = []

    def url(self, name: str) -> str:
        return self.target.url.object_url(name)

    def list(self, name_prefix: str = "") -> Iterator[ListedObject]:
        self._called("list")
        for name, data in sorted(self.objects.items()):
            if name.startswith(name_prefix):
                yield ListedObject(
                    name=name, size=len(data), etag=sha256_hex(data), modified=datetime.now(UTC)
                )

    def head(self, name: str) -> ObjectHead | None:
        self._called("head")
        return _head(self.objects[name]) if name in self.objects else None

    def get(self, name: str) -> tuple[bytes, ObjectHead] | None:
        self._called("get")
        data = self.objects.get(name)
        return None if data is None else (data, _head(data))

    def put(self, name: str, data: bytes, *, only_if: str | None = None) -> str | None:
        self._called("put")
        if only_if is not None:
            here = sha256_hex(self.objects[name]) if name in self.objects else ABSENT
            if only_if != here:
                return None
        self.objects[name] = data
        return sha256_hex(data)

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if error := self.failures.get(method):
            raise error


def _head(data: bytes) -> ObjectHead:
    sha256 = sha256_hex(data)
    return ObjectHead(
        size=len(data),
        etag=sha256,
        sha256=sha256,
        server_sha256=sha256,
        modified=datetime.now(UTC),
        age_s=0.0,
    )
