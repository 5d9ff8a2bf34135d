"""A place in a bucket: the few requests that sync needs, each tried again where waiting helps.

The one room that talks to boto3 for whole objects; `bucket_upload` and `bucket_download` move
large ones. Nothing here logs a request: its headers carry credentials.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar

from merge.errors import BucketUnavailableError, PapergridError
from orchestrator.s3.errors import Request, error_code, explain
from orchestrator.s3.url import BucketTarget

SHA256_KEY = "papergrid-sha256"
"""The user metadata that holds an object's SHA-256, in hex digits."""

ABSENT: Literal["*"] = "*"
"""The condition of a put that may only create."""

NO_UPLOAD = "NoSuchUpload"
_NOT_FOUND = {"404", "NoSuchKey", "NotFound"}
_NOT_MET = {"PreconditionFailed", "412", "ConditionalRequestConflict", *_NOT_FOUND}
_TALKATIVE = ("boto3", "botocore", "s3transfer", "urllib3")

Client = Any
"""Of botocore, which makes the classes of its clients at run time."""

_T = TypeVar("_T")

_FIRST_S = 0.2
_LONGEST_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object as a listing tells it."""

    name: str
    """Relative to the place, as the file's name below the output folder."""
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is stored with an object."""

    size: int
    etag: str
    sha256: str | None
    """As its writer stored it; None where papergrid did not write it."""
    server_sha256: str | None
    """As the server computed it over the whole object; None where it does not."""
    age_s: float
    """Seconds since it was written, by the server's own clock."""


class Bucket:
    """One place in a bucket. Safe for many threads."""

    def __init__(self, target: BucketTarget) -> None:
        self.target = target
        self._slots = threading.BoundedSemaphore(target.max_concurrency)
        self.bandwidth = Bandwidth(target.max_bytes_per_s)
        self.honours_conditions: bool | None = None
        """Known once `bucket_conditions` has asked."""
        self.client = self.translated("connect", "", lambda: _make_client(target))

    def list(self, below: str = "") -> Iterator[Stored]:
        """All objects of this place whose name begins with `below`."""
        prefix = self.target.url.key(below)
        if self.target.url.prefix and not below:
            prefix = f"{self.target.url.prefix}/"
        more: dict[str, str] = {}
        while True:
            page = self.call(
                "ListObjectsV2", "", self.client.list_objects_v2, Prefix=prefix, **more
            )
            for entry in page.get("Contents", []):
                yield Stored(
                    name=self.target.url.name(entry["Key"]),
                    size=entry["Size"],
                    etag=plain(entry["ETag"]),
                    modified=entry["LastModified"],
                )
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def head(self, name: str) -> Head | None:
        """What is stored with the object `name`; None where there is none."""
        answer = self._unless_absent("HeadObject", name, self.client.head_object)
        return _head(answer) if answer else None

    def get(self, name: str) -> tuple[bytes, Head] | None:
        """A small object and what is stored with it; None where there is none."""

        def fetch(**words: object) -> Mapping[str, Any]:
            answer = self.client.get_object(**words)
            return {**answer, "Data": answer["Body"].read()}

        answer = self._unless_absent("GetObject", name, fetch)
        return (answer["Data"], _head(answer)) if answer else None

    def put(self, name: str, data: bytes, *, only_if: str | None = None) -> str | None:
        """Write a small object and return its etag; None where the condition was not met.

        `only_if` is ABSENT or the etag that is to be replaced. After a lost answer, None may stand
        for a write of our own: whoever gets it reads what is there.
        """
        digest = hashlib.sha256(data)
        self.bandwidth.take(len(data))
        return self.conditionally(
            "PutObject",
            name,
            self.client.put_object,
            Body=data,
            ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
            Metadata={SHA256_KEY: digest.hexdigest()},
            **self.encryption,
            **condition(only_if),
        )

    def delete(self, name: str) -> None:
        """Remove the object `name`; none is fine too."""
        self.call("DeleteObject", name, self.client.delete_object, Key=self.target.url.key(name))

    @property
    def encryption(self) -> dict[str, str]:
        """The words of a put that choose the server's encryption."""
        target = self.target
        words = {"ServerSideEncryption": target.encryption, "SSEKMSKeyId": target.kms_key_id}
        return {key: value for key, value in words.items() if value}

    def conditionally(
        self, operation: str, name: str, function: Callable[..., Any], **words: object
    ) -> str | None:
        """The etag that a conditional write returns; None where its condition was not met."""
        try:
            answer = self.call(operation, name, function, Key=self.target.url.key(name), **words)
        except RefusedError as refused:
            if refused.code in _NOT_MET and ("IfMatch" in words or "IfNoneMatch" in words):
                return None
            if refused.code == NO_UPLOAD:
                raise
            raise refused.told from refused
        return plain(answer["ETag"])

    def call(self, operation: str, name: str, function: Callable[..., _T], **words: object) -> _T:
        """One request, tried again while waiting may help; errors are of `merge.errors`."""
        tries = self.target.patience
        bucket = self.target.url.bucket
        return patiently(
            lambda: self.translated(operation, name, lambda: function(Bucket=bucket, **words)),
            tries,
            time.sleep,
        )

    def translated(self, operation: str, name: str, action: Callable[[], _T]) -> _T:
        """What `action` returns; an error of botocore becomes one that a person understands."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            with self._slots:
                return action()
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            told = explain(error, Request(self.target, operation, name))
            if error_code(error) in _NOT_MET or error_code(error) == NO_UPLOAD:
                raise RefusedError(error_code(error), told) from error
            raise told from error

    def _unless_absent(
        self, operation: str, name: str, function: Callable[..., Mapping[str, Any]]
    ) -> Mapping[str, Any] | None:
        key = self.target.url.key(name)
        try:
            return self.call(operation, name, function, Key=key, ChecksumMode="ENABLED")
        except RefusedError as refused:
            if refused.code in _NOT_FOUND:
                return None
            raise refused.told from refused


class RefusedError(PapergridError):
    """An answer that may be none of a person's business: not found, condition not met."""

    exit_code = 2

    def __init__(self, code: str, told: PapergridError) -> None:
        super().__init__(code, told)
        self.code = code
        self.told = told

    def __str__(self) -> str:
        return str(self.told)


def condition(only_if: str | None) -> dict[str, str]:
    """The words of a conditional write. Etags go without quotes: radosgw wants them so."""
    if only_if is None:
        return {}
    return {"IfNoneMatch": ABSENT} if only_if == ABSENT else {"IfMatch": only_if}


def plain(etag: str) -> str:
    """An etag without the quotes that some answers have and some have not."""
    return etag.strip('"')


def _head(answer: Mapping[str, Any]) -> Head:
    metadata = {key.lower(): value for key, value in answer.get("Metadata", {}).items()}
    computed = answer.get("ChecksumSHA256", "")
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(told) if told else datetime.now(UTC)
    return Head(
        size=answer["ContentLength"],
        etag=plain(answer["ETag"]),
        sha256=metadata.get(SHA256_KEY),
        age_s=(now - answer["LastModified"]).total_seconds(),
        # A composite checksum, of parts, is marked by their number: it is none of the whole.
        server_sha256=base64.b64decode(computed).hex()
        if computed and "-" not in computed
        else None,
    )


def _make_client(target: BucketTarget) -> Client:
    import boto3
    from botocore.config import Config

    for name in _TALKATIVE:
        # At debug they write request headers, session tokens among them, to the log.
        logging.getLogger(name).setLevel(logging.WARNING)
    session = boto3.session.Session(profile_name=target.profile, region_name=target.region)
    return session.client(
        "s3",
        endpoint_url=target.endpoint_url,
        # Our own retries are the only ones; our own checksums go with every write.
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=4 * target.max_concurrency + 2,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def delay_s(attempt: int, longest_s: float = _LONGEST_S) -> float:
    """How long to wait after the failed `attempt` (from 0): random, its upper limit doubling."""
    limit_s = min(longest_s, _FIRST_S * 2.0 ** min(attempt, 20))
    return random.uniform(0.5, 1.0) * limit_s


def patiently(action: Callable[[], _T], tries: int, wait: Callable[[float], object]) -> _T:
    """What `action` returns at last; its error where waiting does not help or `tries` are over."""
    for attempt in range(tries - 1):
        try:
            return action()
        except BucketUnavailableError as error:
            if not error.is_transient:
                raise
            wait(delay_s(attempt))
    return action()


class Bandwidth:
    """At most `bytes_per_s` together; None is no limit. Safe for many threads."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, num_bytes: int) -> None:
        """Return when `num_bytes` may pass."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + num_bytes / self._bytes_per_s
        time.sleep(start - now)
