"""What is no whole answer of a store is asked for again, and never believed."""

from __future__ import annotations

import gzip
import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from support.canned_store import DATE, WRITTEN, CannedStore, answer

from merge.errors import BucketUnavailableError, RecordError
from merge.storage.control_paths import SyncPaths
from orchestrator.s3 import bucket as module
from orchestrator.s3.bucket import ABSENT, Bucket
from orchestrator.s3.download import download_file
from orchestrator.s3.objects import ListedObject
from orchestrator.s3.upload import Upload, snapshot
from orchestrator.s3.url import BucketTarget, parse_url

CONTENT = b'{"miou": 0.5}'
SHA256 = hashlib.sha256(CONTENT)
STORED = {
    "ETag": '"abc"',
    "Last_Modified": WRITTEN,
    "x_amz_meta_papergrid_sha256": SHA256.hexdigest(),
}
OBJECT = {**STORED, "x_amz_checksum_sha256": b64encode(SHA256.digest()).decode()}
ENTRY = (
    "<Contents><Key>abcb/{}</Key><Size>13</Size><ETag>&quot;abc&quot;</ETag>"
    "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
)
COUNT = "<KeyCount>2</KeyCount>"
LISTING = (
    f"<ListBucketResult><Name>papers</Name>{COUNT}<IsTruncated>false</IsTruncated>"
    f"{ENTRY.format('a')}{ENTRY.format('b')}</ListBucketResult>"
)
PORTAL = b"<html><head><title>Sign in</title></head><body>Welcome to the network</body></html>"


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


WHOLE = {
    "list": answer("200 OK", LISTING.encode()),
    "head": answer("200 OK", **OBJECT | {"Content_Length": "13"}),
    "get": answer("200 OK", CONTENT, **OBJECT),
    "get absent": answer("404 Not Found", error("NoSuchKey")),
    "put": answer("200 OK", ETag='"abc"'),
    "put refused": answer("412 Precondition Failed", error("PreconditionFailed")),
    "range": answer("206 Partial Content", CONTENT, **STORED),
    "delete": answer("204 No Content"),
    "create": answer(
        "200 OK",
        b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>",
    ),
    "part": answer("200 OK", ETag='"abc"'),
    "parts": answer(
        "200 OK",
        b"<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>&quot;abc&quot;</ETag>"
        b"<Size>13</Size></Part></ListPartsResult>",
    ),
    "complete": answer(
        "200 OK",
        b"<CompleteMultipartUploadResult><ETag>&quot;abc&quot;</ETag>"
        b"</CompleteMultipartUploadResult>",
    ),
    "abort": answer("204 No Content"),
}
"""A whole answer to each kind of request that papergrid makes."""


@pytest.fixture(scope="module")
def store() -> Iterator[CannedStore]:
    with CannedStore().serving() as serving:
        yield serving


@pytest.fixture(scope="module")
def bucket(store, tmp_path_factory) -> Iterator[Bucket]:
    url = parse_url("s3://papers/abcb")
    target = BucketTarget(url=url, endpoint_url=store.endpoint, region="us-east-1", max_attempts=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path_factory.mktemp("aws") / "config"))
        patch.setattr(module.time, "sleep", lambda _: None)
        yield Bucket(target)


@pytest.fixture
def requests(bucket, tmp_path) -> Iterator[dict[str, Callable[[], object]]]:
    """Each kind of request, as its caller makes it."""
    (tmp_path / "file").write_bytes(CONTENT)
    with snapshot(tmp_path / "file") as source:
        upload = Upload(
            bucket=bucket,
            name="a",
            source=source,
            sha256=SHA256.hexdigest(),
            only_if=ABSENT,
            state_paths=SyncPaths(tmp_path),
        )
        part = {"PartNumber": 1, "ETag": '"abc"'}

        modified = datetime(2026, 1, 2, tzinfo=UTC)
        listed = ListedObject(name="a", size=len(CONTENT), etag="abc", modified=modified)

        def fetch() -> str:
            (tmp_path / "part").unlink(missing_ok=True)
            return download_file(bucket, listed, tmp_path / "part", SHA256.hexdigest())

        yield {
            "list": lambda: [listed.name for listed in bucket.list()],
            "head": lambda: bucket.head("a"),
            "get": lambda: bucket.get("a"),
            "get absent": lambda: bucket.get("a"),
            "put": lambda: bucket.put("a", CONTENT),
            "put refused": lambda: bucket.put("a", CONTENT, only_if=ABSENT),
            "range": fetch,
            "delete": lambda: bucket.delete("a"),
            "create": upload._create,
            "part": lambda: upload._send_part(1, "u1", None),
            "parts": lambda: upload._list_parts("u1"),
            "complete": lambda: upload._complete("u1", [part]),
            "abort": lambda: upload._abort("u1"),
        }


@pytest.mark.parametrize("kind", WHOLE)
def test_an_answer_cut_at_any_byte_is_no_answer(store, bucket, requests, kind, monkeypatch):
    whole = WHOLE[kind]
    monkeypatch.setattr(bucket, "target", replace(bucket.target, max_attempts=1))
    for length in range(len(whole)):
        # Two, so that the server closes the connection after the first.
        store.answers = [whole[:length], whole]
        with pytest.raises(BucketUnavailableError, match="answer"):
            requests[kind]()


@pytest.mark.parametrize("kind", WHOLE)
def test_an_answer_that_was_cut_is_asked_for_again(store, requests, kind):
    ask, whole = requests[kind], WHOLE[kind]
    store.answers = [whole]
    expected = ask()
    for length in (0, 20, whole.index(b"\r\n\r\n"), len(whole) - 1):
        store.answers, store.num_requests = [whole[:length], whole], 0
        assert ask() == expected
        assert store.num_requests == 2


IMPOSTORS = {
    "login page": answer("200 OK", PORTAL, Content_Type="text/html", ETag='"5f-1"'),
    "redirect to a login page": answer("302 Found", PORTAL, Location="http://login/"),
    "refusal of a proxy": answer("403 Forbidden", PORTAL, Content_Type="text/html"),
    "absent for a proxy": answer("404 Not Found", b"<html><body>404</body></html>"),
    "condition of a proxy": answer("412 Precondition Failed"),
    "empty": answer("200 OK"),
    "other success": answer("202 Accepted"),
    "encoded": answer("200 OK", gzip.compress(CONTENT), Content_Encoding="gzip", **OBJECT),
    "other text": answer("200 OK", b"<Other/>"),
}


@pytest.mark.parametrize("impostor", IMPOSTORS)
@pytest.mark.parametrize("kind", [k for k in WHOLE if k not in ("head", "delete", "abort")])
def test_what_another_server_says_is_not_believed(store, requests, kind, impostor):
    store.answers = [WHOLE[kind]]
    expected = requests[kind]()
    store.answers = [IMPOSTORS[impostor], WHOLE[kind]]
    assert requests[kind]() == expected
    store.answers = [IMPOSTORS[impostor]]
    with pytest.raises(BucketUnavailableError, match="answer"):
        requests[kind]()


def test_an_object_is_absent_only_where_its_store_says_so(store, bucket):
    """HEAD answers have no body: that of a proxy looks the same."""
    absent = answer("404 Not Found")
    store.answers = [absent, WHOLE["range"], WHOLE["head"]]
    head = bucket.head("a")
    assert head is not None
    assert head.age_s == 90
    store.answers = [absent, WHOLE["get absent"]]
    assert bucket.head("a") is None
    store.answers = [absent, answer("404 Not Found", PORTAL)] * 2
    with pytest.raises(BucketUnavailableError, match="without a store's error code"):
        bucket.head("a")


@pytest.mark.parametrize("missing", ["ETag", "Last_Modified", "Date"])
def test_a_head_without_a_field_is_asked_for_again(store, bucket, missing):
    fields = {**OBJECT, "Content_Length": "13", "Date": DATE}
    del fields[missing]
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    partial = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()
    store.answers = [partial, WHOLE["head"]]
    assert bucket.head("a") is not None
    store.answers = [partial] * 3
    with pytest.raises(BucketUnavailableError, match=f"has no {missing.replace('_', '')}"):
        bucket.head("a")


LISTINGS = {
    "fewer keys than counted": LISTING.replace(ENTRY.format("b"), ""),
    "no end said": LISTING.replace("<IsTruncated>false</IsTruncated>", ""),
    "a next page without its token": LISTING.replace("false", "true"),
    "an entry without its ETag": LISTING.replace("<ETag>&quot;abc&quot;</ETag>", "", 1),
    "a size that is none": LISTING.replace("<Size>13", "<Size>1x", 1),
    "a date that is none": LISTING.replace("2026-01-02T", "2026-01-99T", 1),
    "keys of another place": LISTING.replace("abcb/a", "abca/a"),
    "an empty bucket without a count": "<ListBucketResult><IsTruncated>false</IsTruncated>"
    "</ListBucketResult>",
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_listing_that_is_not_whole_is_not_believed(store, bucket, listing):
    broken = answer("200 OK", LISTINGS[listing].encode())
    store.answers = [broken, WHOLE["list"], WHOLE["list"]]
    assert [listed.name for listed in bucket.list()] == ["a", "b"]


def test_a_store_that_does_not_count_keys_is_asked_twice(store, bucket):
    uncounted = answer("200 OK", LISTING.replace(COUNT, "").encode())
    fewer = answer("200 OK", LISTING.replace(COUNT, "").replace(ENTRY.format("b"), "").encode())
    store.answers, store.num_requests = [uncounted], 0
    assert [listed.name for listed in bucket.list()] == ["a", "b"]
    assert store.num_requests == 2
    store.answers = [fewer, uncounted, uncounted]
    assert [listed.name for listed in bucket.list()] == ["a", "b"]


def test_a_page_that_names_itself_as_the_next_one_ends(store, bucket):
    page = LISTING.replace(
        "false</IsTruncated>",
        "true</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
    )
    store.answers = [answer("200 OK", page.encode())]
    with pytest.raises(BucketUnavailableError, match="the same page again"):
        list(bucket.list())


def flipped(whole: bytes, old: bytes, new: bytes) -> bytes:
    assert whole.count(old) == 1
    return whole.replace(old, new)


def test_a_byte_that_was_flipped_on_the_way_is_read_again(store, bucket, requests):
    for kind in ("get", "range"):
        store.answers = [WHOLE[kind]]
        expected = requests[kind]()
        store.answers = [flipped(WHOLE[kind], b'"miou": 0.5', b'"miou": 0.7'), WHOLE[kind]]
        assert requests[kind]() == expected
    in_name = flipped(WHOLE["head"], b"papergrid-sha256", b"papergrid-sha257")
    store.answers = [in_name, WHOLE["head"]]
    head = bucket.head("a")
    assert head is not None
    assert head.sha256 == SHA256.hexdigest()


def test_bytes_that_differ_each_time_are_no_damaged_object(store, bucket, requests):
    store.answers = [
        flipped(WHOLE["get"], b'"miou": 0.5', f'"miou": 0.{digit}'.encode()) for digit in (7, 8, 9)
    ]
    with pytest.raises(BucketUnavailableError, match="does not fit its checksum"):
        bucket.get("a")
    store.answers = [
        flipped(WHOLE["range"], b'"miou": 0.5', f'"miou": 0.{digit}'.encode())
        for digit in (1, 2, 3, 4, 6, 7, 8, 9)
    ]
    with pytest.raises(BucketUnavailableError, match="differs each time"):
        requests["range"]()


def test_an_object_that_reads_the_same_twice_is_damaged(store, bucket, requests):
    store.answers = [flipped(WHOLE["get"], b'"miou": 0.5', b'"miou": 0.7')] * 2
    data, head = bucket.get("a")
    assert (data, head.sha256) == (b'{"miou": 0.7}', SHA256.hexdigest())
    store.answers = [flipped(WHOLE["range"], b'"miou": 0.5', b'"miou": 0.7')] * 2
    with pytest.raises(RecordError, match="is damaged"):
        requests["range"]()


def test_a_store_that_received_other_bytes_gets_them_again(store, requests):
    other = answer("200 OK", ETag='"abc"', x_amz_checksum_sha256=b64encode(bytes(32)).decode())
    for kind in ("put", "part"):
        store.answers, store.num_requests = [other, WHOLE[kind]], 0
        requests[kind]()
        assert store.num_requests == 2


@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
def test_an_error_inside_of_a_success_is_an_error(store, requests, code):
    store.answers = [answer("200 OK", error(code)), WHOLE["complete"]]
    assert requests["complete"]() == "abc"


def test_a_condition_that_fails_inside_of_a_success_is_known(store, bucket):
    store.answers = [answer("200 OK", error("PreconditionFailed"))]
    found = bucket.conditional_write(
        "CompleteMultipartUpload",
        "a",
        bucket.client.complete_multipart_upload,
        UploadId="u1",
        IfNoneMatch=ABSENT,
    )
    assert found is None


def test_an_answer_in_chunks_is_whole_too(store, bucket):
    body = f"{len(CONTENT):x}\r\n".encode() + CONTENT + b"\r\n0\r\n\r\n"
    head = answer("200 OK", **OBJECT, Transfer_Encoding="chunked")
    chunked = head.replace(b"Content-Length: 0\r\n", b"") + body
    store.answers = [chunked[:-20], chunked]
    data, head_of_it = bucket.get("a")
    assert (data, head_of_it.size) == (CONTENT, len(CONTENT))
    assert replace(head_of_it, size=1).fits(SHA256.hexdigest())
