"""Whether what came back over HTTP is an answer of an object store, and a whole one.

botocore believes whatever it can parse: a listing without a body is an empty bucket to it, and so
is the login page of a network. Everything here raises BrokenAnswerError, which `Bucket` treats as
a lost connection: the request is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol
from xml.etree import ElementTree

_NO_BODY = frozenset({"PutObject", "UploadPart", "DeleteObject", "AbortMultipartUpload"})
_DELETIONS = frozenset({"DeleteObject", "AbortMultipartUpload"})
_ROOTS = {
    "ListObjectsV2": {"ListBucketResult"},
    "ListParts": {"ListPartsResult"},
    # rclone leaves `Result` out.
    "CreateMultipartUpload": {"InitiateMultipartUploadResult", "InitiateMultipartUpload"},
    "CompleteMultipartUpload": {"CompleteMultipartUploadResult"},
}
"""Operation -> the names that the root of its answer's XML may have."""

_FOUND_ELSEWHERE = frozenset({HTTPStatus.FOUND, HTTPStatus.SEE_OTHER})
"""Redirects that no store sends, but login pages of networks do."""

Answer = Mapping[str, Any]


class Operation(Protocol):
    """What is used of botocore's OperationModel."""

    @property
    def name(self) -> str: ...


class BrokenAnswerError(Exception):
    """What came back is no whole answer of an object store; its text says why."""


def refuse_broken_answer(
    operation_model: Operation, response_dict: Mapping[str, Any], **_: object
) -> None:
    """Check an answer before botocore parses it; a handler of its event `before-parse.s3.*`."""
    try:
        _check(operation_model.name, **_parts(response_dict))
    except BrokenAnswerError:
        body = response_dict["body"]
        if not isinstance(body, bytes):
            # The connection has the rest of a download that is not read.
            body.close()
        raise


def requiring(function: Callable[..., Answer], *fields: str) -> Callable[..., Answer]:
    """`function`, whose answers must have all these fields."""

    def checked(**parameters: object) -> Answer:
        answer = function(**parameters)
        require(answer, *fields)
        return answer

    return checked


def require(answer: Answer, *fields: str) -> None:
    """Refuse an answer, or an entry of one, in which one of these fields is missing or empty."""
    for field in fields:
        if answer.get(field) in (None, ""):
            raise BrokenAnswerError(f"it has no {field}")


def check_page(page: Answer, prefix: str, token: str | None) -> None:
    """Refuse a page of a listing that is not whole; `token` is the one that it was asked with."""
    require(page, "IsTruncated")
    entries = page.get("Contents", [])
    for entry in entries:
        require(entry, "Key", "Size", "ETag", "LastModified")
        if not entry["Key"].startswith(prefix):
            raise BrokenAnswerError("it lists keys that were not asked for")
    if page.get("KeyCount", 0) > len(entries):
        raise BrokenAnswerError(f"it lists {len(entries)} keys and counts {page['KeyCount']}")
    if page["IsTruncated"]:
        require(page, "NextContinuationToken")
        if page["NextContinuationToken"] == token:
            raise BrokenAnswerError("its next page is the same page again")


def check_parts(page: Answer) -> None:
    """Refuse a list of uploaded parts that is not whole."""
    for part in page.get("Parts", []):
        require(part, "PartNumber", "Size", "ETag")
    if page.get("IsTruncated"):
        require(page, "NextPartNumberMarker")


def _parts(response: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": response["status_code"],
        "headers": response["headers"],
        "body": response["body"],
    }


def _check(operation: str, status: int, headers: Mapping[str, str], body: object) -> None:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        # Repeated in any case, whatever their body is.
        return
    _refuse_encoded(headers)
    if operation.startswith("Head"):
        _check_head_status(status)
    elif isinstance(body, bytes):
        _check_length(headers, body)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            _check_refusal(status, headers, body)
        else:
            _check_status(operation, status)
            _check_text(operation, body)
    else:
        # A download: its content is checked where it is read.
        _check_status(operation, status)


def _refuse_encoded(headers: Mapping[str, str]) -> None:
    # Papergrid stores no encoded object and asks for none: a proxy has changed this answer.
    encoding = headers.get("content-encoding", "").lower()
    if encoding not in ("", "identity", "aws-chunked"):
        raise BrokenAnswerError(f"it is encoded as {encoding}")


def _check_head_status(status: int) -> None:
    is_success = status < HTTPStatus.MULTIPLE_CHOICES
    if status in _FOUND_ELSEWHERE or (is_success and status != HTTPStatus.OK):
        raise BrokenAnswerError(f"a store does not answer with status {status}")


def _check_length(headers: Mapping[str, str], body: bytes) -> None:
    # botocore checks the length of downloads alone.
    length = headers.get("content-length")
    if length is not None and length != str(len(body)):
        raise BrokenAnswerError(f"it has {len(body)} of {length} bytes")


def _check_refusal(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Every refusal of a store is XML; without this check, a 404 of a proxy is an absent object."""
    root = _parse(body)
    if root is None or _name(root) != "Error" or not _has_code(root):
        kind = headers.get("content-type") or "without a type"
        raise BrokenAnswerError(f"status {status} comes without a store's error code ({kind})")


def _check_status(operation: str, status: int) -> None:
    expected = {HTTPStatus.OK}
    if operation in _DELETIONS:
        expected = {HTTPStatus.OK, HTTPStatus.NO_CONTENT}
    elif operation == "GetObject":
        expected = {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}
    if status not in expected:
        raise BrokenAnswerError(f"a store does not answer with status {status}")


def _check_text(operation: str, body: bytes) -> None:
    if operation in _NO_BODY and body.strip():
        raise BrokenAnswerError("it has a text where a store sends none")
    if operation in _ROOTS:
        root = _parse(body)
        if root is None or _name(root) not in _ROOTS[operation]:
            raise BrokenAnswerError("its text is not that of this request")


def _parse(body: bytes) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return None


def _name(element: ElementTree.Element) -> str:
    """The name of an element without its namespace."""
    return element.tag.rpartition("}")[2]


def _has_code(root: ElementTree.Element) -> bool:
    return any(_name(child) == "Code" and child.text for child in root)
