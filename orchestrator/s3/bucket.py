"""One place in a bucket: requests for whole objects, with retries and plain error messages.

`upload.py` and `download.py` move large objects in parts. Nothing here logs a request: its headers
hold credentials.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from merge.errors import PapergridError
from orchestrator.s3.answers import Answer, BrokenAnswerError, check_page, requiring
from orchestrator.s3.backoff import retry_with_backoff
from orchestrator.s3.bandwidth import BandwidthLimit
from orchestrator.s3.checksums import SHA256_KEY, sha256_base64, sha256_hex
from orchestrator.s3.client import make_client, server_name
from orchestrator.s3.errors import Request, error_code, explain
from orchestrator.s3.objects import ListedObject, ObjectHead, head_of, unquoted
from orchestrator.s3.url import BucketTarget

ABSENT: Literal["*"] = "*"
"""The condition of a write that may create an object but not replace one."""

NO_SUCH_UPLOAD = "NoSuchUpload"
# HEAD answers have no body, so botocore knows their status alone and uses it as the code.
_NOT_FOUND = {"404", "NoSuchKey", "NotFound"}
# 412: the condition does not hold. 409: another conditional write of this key is under way.
# 404: If-Match on an object that was removed.
_CONDITION_FAILED = {
    "PreconditionFailed",
    "412",
    "ConditionalRequestConflict",
    *_NOT_FOUND,
}

_T = TypeVar("_T")


class Bucket:
    """One place in a bucket. Safe for many threads."""

    def __init__(self, target: BucketTarget) -> None:
        self.target = target
        self.server = target.endpoint_url or "Amazon S3"
        """The server that is asked, as messages name it."""
        # A slot is held during one attempt only, never while a thread waits to retry.
        self._slots = threading.BoundedSemaphore(target.max_concurrency)
        self.bandwidth = BandwidthLimit(target.max_bytes_per_s)
        self.has_conditional_writes: bool | None = None
        """None until `supports_conditional_writes` has tried."""
        self.client = self._with_plain_errors("connect", "", lambda: make_client(target))
        self.server = server_name(self.client)

    def url(self, name: str) -> str:
        """`s3://bucket/prefix/name`, for messages."""
        return self.target.url.object_url(name)

    def list(self, name_prefix: str = "") -> Iterator[ListedObject]:
        """All objects of this place whose name begins with `name_prefix`.

        Complete: S3 listings show every write that was answered before.
        """
        prefix = self.target.url.key(name_prefix)
        if self.target.url.prefix and not name_prefix:
            # With the slash: the prefix `abcb` must not list `abcb-old/...`.
            prefix = f"{self.target.url.prefix}/"
        token: str | None = None
        while True:
            page = self._page(prefix, token)
            yield from map(self._listed, page.get("Contents", []))
            if not page["IsTruncated"]:
                return
            token = page["NextContinuationToken"]

    def head(self, name: str) -> ObjectHead | None:
        """The metadata of the object `name`; None where there is no such object."""
        head = self._head(name)
        # Asked again: a byte that was flipped in a header's name has hidden the checksum.
        return self._head(name) if head and head.sha256 is None else head

    def get(self, name: str) -> tuple[bytes, ObjectHead] | None:
        """The content and the metadata of a small object; None where there is no such object.

        Content that does not fit its checksum is read again. Only where it is the same again, it
        is that of the object, and returned.
        """
        unfit: list[tuple[str, str | None]] = []

        def fetch(**parameters: object) -> Mapping[str, Any]:
            answer = self.client.get_object(**parameters)
            # Read inside of the retried action: the connection may break in the middle of a body.
            data = answer["Body"].read()
            head = head_of(_with_length(answer, data))
            reading = (sha256_hex(data), head.sha256)
            if not head.fits(reading[0]) and reading not in unfit:
                unfit.append(reading)
                raise BrokenAnswerError("its content does not fit its checksum")
            return {"Data": data, "Head": head}

        answer = self._none_if_absent("GetObject", name, fetch)
        return (answer["Data"], answer["Head"]) if answer else None

    def put(self, name: str, data: bytes, *, only_if: str | None = None) -> str | None:
        """Write a small object. Its new ETag; None where the condition does not hold.

        `only_if` is ABSENT, the ETag that may be replaced, or None for no condition. After a lost
        answer and a retry, None may stand for a write of our own: the caller reads the object.
        """
        self.bandwidth.acquire(len(data))
        return self.conditional_write(
            "PutObject",
            name,
            refusing_other_checksum(self.client.put_object),
            Body=data,
            ChecksumSHA256=sha256_base64(data),
            Metadata={SHA256_KEY: sha256_hex(data)},
            **self.encryption_parameters,
            **condition_parameters(only_if),
        )

    def delete(self, name: str) -> None:
        """Remove the object `name`; a no-op where there is no such object."""
        self.call("DeleteObject", name, self.client.delete_object, Key=self.target.url.key(name))

    @property
    def encryption_parameters(self) -> dict[str, str]:
        """The parameters of a write that choose the server's encryption."""
        target = self.target
        parameters = {"ServerSideEncryption": target.encryption, "SSEKMSKeyId": target.kms_key_id}
        return {key: value for key, value in parameters.items() if value}

    def conditional_write(
        self, operation: str, name: str, function: Callable[..., Any], **parameters: object
    ) -> str | None:
        """The ETag that a conditional write returns; None where its condition does not hold.

        RequestRefusedError where the multipart upload that it completes does not exist.
        """
        try:
            key = self.target.url.key(name)
            answer = self.call(operation, name, requiring(function, "ETag"), Key=key, **parameters)
        except RequestRefusedError as refused:
            is_conditional = "IfMatch" in parameters or "IfNoneMatch" in parameters
            if refused.code in _CONDITION_FAILED and is_conditional:
                return None
            if refused.code == NO_SUCH_UPLOAD:
                raise
            raise refused.explained from refused
        return unquoted(str(answer["ETag"]))

    def call(
        self, operation: str, name: str, function: Callable[..., _T], **parameters: object
    ) -> _T:
        """One request, with retries; its errors are those of `merge.errors`."""
        bucket = self.target.url.bucket
        return retry_with_backoff(
            lambda: self._with_plain_errors(
                operation, name, lambda: function(Bucket=bucket, **parameters)
            ),
            self.target.max_attempts,
            time.sleep,
        )

    def _with_plain_errors(self, operation: str, name: str, action: Callable[[], _T]) -> _T:
        """What `action` returns; an error of botocore becomes one of `merge.errors`."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.httpsession import ProtocolError, URLLib3ReadTimeoutError
        from botocore.parsers import ResponseParserError

        try:
            with self._slots:
                return action()
        except (
            BrokenAnswerError,
            BotoCoreError,
            ClientError,
            # For answers that break off or cannot be parsed; botocore lets them through.
            ResponseParserError,
            ProtocolError,
            URLLib3ReadTimeoutError,
            ValueError,
        ) as error:
            explained = explain(error, Request(self.target, operation, self.server, name))
            code = error_code(error)
            if code in _CONDITION_FAILED or code == NO_SUCH_UPLOAD:
                raise RequestRefusedError(code, explained) from error
            raise explained from error

    def _none_if_absent(
        self, operation: str, name: str, function: Callable[..., Mapping[str, Any]]
    ) -> Mapping[str, Any] | None:
        key = self.target.url.key(name)
        try:
            return self.call(operation, name, function, Key=key)
        except RequestRefusedError as refused:
            if refused.code in _NOT_FOUND:
                return None
            raise refused.explained from refused

    def _head(self, name: str) -> ObjectHead | None:
        def ask(**parameters: object) -> Mapping[str, Any]:
            return {"Head": head_of(self._head_or_absent(parameters))}

        answer = self._none_if_absent("HeadObject", name, ask)
        return answer["Head"] if answer else None

    def _head_or_absent(self, parameters: Mapping[str, object]) -> Answer:
        from botocore.exceptions import ClientError

        try:
            # ChecksumMode: without it the server leaves its own checksum out of the answer. Not of
            # GET: botocore then hides content that does not fit, and we could not read it twice.
            answer: Answer = self.client.head_object(**parameters, ChecksumMode="ENABLED")
        except ClientError as error:
            if error_code(error) in _NOT_FOUND:
                # HEAD answers have no body: a 404 of a proxy looks the same. GET says who it is
                # from, and raises the same error where the object is absent.
                self.client.get_object(**parameters, Range="bytes=0-0")["Body"].close()
                raise BrokenAnswerError("it says that an object is absent which is there") from None
            raise
        return answer

    def _page(self, prefix: str, token: str | None) -> Answer:
        """A page of a listing."""
        next_page = {"ContinuationToken": token} if token else {}

        def ask(**parameters: object) -> Answer:
            page: Answer = self.client.list_objects_v2(**parameters)
            check_page(page, prefix, token)
            return page

        def ask_until_sure(**parameters: object) -> Answer:
            page = ask(**parameters)
            # Some stores do not count the keys, and a count of 0 is left out by others: without
            # it, only a second answer shows that none was lost.
            if "KeyCount" not in page and _keys(page) != _keys(ask(**parameters)):
                raise BrokenAnswerError("two answers in a row list different keys")
            return page

        return self.call("ListObjectsV2", "", ask_until_sure, Prefix=prefix, **next_page)

    def _listed(self, entry: Mapping[str, Any]) -> ListedObject:
        return ListedObject(
            name=self.target.url.name(entry["Key"]),
            size=entry["Size"],
            etag=unquoted(entry["ETag"]),
            modified=entry["LastModified"],
        )


class RequestRefusedError(PapergridError):
    """A refusal that a caller may expect: no such object or upload, condition does not hold."""

    exit_code = 2

    def __init__(self, code: str, explained: PapergridError) -> None:
        super().__init__(code, explained)
        self.code = code
        self.explained = explained
        """The error to raise where the caller does not expect the refusal."""

    def __str__(self) -> str:
        return str(self.explained)


def condition_parameters(only_if: str | None) -> dict[str, str]:
    """The parameters of a conditional write, of `only_if` as `Bucket.put` takes it."""
    if only_if is None:
        return {}
    # The ETag goes without quotes: Ceph's radosgw does not match it with quotes.
    return {"IfNoneMatch": ABSENT} if only_if == ABSENT else {"IfMatch": only_if}


def _keys(page: Answer) -> list[str]:
    return [entry["Key"] for entry in page.get("Contents", [])]


def _with_length(answer: Answer, data: bytes) -> Answer:
    """The answer, also where its body came in chunks: then a cut one is an error already."""
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    is_chunked = "chunked" in headers.get("transfer-encoding", "")
    return {**answer, "ContentLength": len(data)} if is_chunked else answer


def refusing_other_checksum(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """`function`, a write, whose answer must not name another checksum than what was sent."""

    def checked(**parameters: object) -> Answer:
        answer = function(**parameters)
        if answer.get("ChecksumSHA256") not in (None, "", parameters["ChecksumSHA256"]):
            raise BrokenAnswerError("the store received other bytes than were sent")
        return answer

    return checked
