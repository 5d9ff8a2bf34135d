"""What is made of answers that stores give to requests for whole objects."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from botocore.stub import ANY, Stubber

from merge.errors import BucketError
from orchestrator.s3.bucket import ABSENT, Bucket
from orchestrator.s3.url import BucketTarget, parse_url

WRITTEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DIGEST = hashlib.sha256(b"content")


@pytest.fixture
def bucket(monkeypatch, tmp_path) -> Bucket:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    url = parse_url("s3://papers/abcb")
    endpoint = "http://127.0.0.1:1"
    return Bucket(BucketTarget(url=url, endpoint_url=endpoint, region="us-east-1", max_attempts=1))


@pytest.fixture
def answers(bucket) -> Iterator[Stubber]:
    """Stands for the server: botocore checks requests and answers against S3's own model."""
    with Stubber(bucket.client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def head_answer(checksum: str, written_by: str = "papergrid-sha256") -> dict[str, object]:
    date = format_datetime(WRITTEN + timedelta(seconds=90), usegmt=True)
    return {
        "ContentLength": 7,
        "ETag": '"abc"',
        "LastModified": WRITTEN,
        "Metadata": {written_by: DIGEST.hexdigest()},
        "ChecksumSHA256": checksum,
        "ResponseMetadata": {"HTTPHeaders": {"date": date}},
    }


def test_an_object_has_the_checksum_that_the_server_computed(bucket, answers):
    whole = base64.b64encode(DIGEST.digest()).decode()
    answers.add_response("head_object", head_answer(whole))
    head = bucket.head("x")
    assert (head.server_sha256, head.sha256) == (DIGEST.hexdigest(), DIGEST.hexdigest())
    assert (head.etag, head.age_s) == ("abc", 90.0)


def test_a_checksum_of_the_parts_is_no_checksum_of_the_object(bucket, answers):
    of_parts = base64.b64encode(DIGEST.digest()).decode() + "-4"
    answers.add_response("head_object", head_answer(of_parts, "Papergrid-Sha256"))
    head = bucket.head("x")
    assert (head.server_sha256, head.best_sha256) == (None, DIGEST.hexdigest())


@pytest.mark.parametrize(
    ("code", "status"),
    [("PreconditionFailed", 412), ("ConditionalRequestConflict", 409), ("NoSuchKey", 404)],
)
@pytest.mark.parametrize("only_if", [ABSENT, "abc"])
def test_a_condition_that_does_not_hold_is_no_error(bucket, answers, only_if, code, status):
    answers.add_client_error("put_object", code, http_status_code=status)
    assert bucket.put("x", b"content", only_if=only_if) is None


def test_the_same_answer_without_a_condition_is_an_error(bucket, answers):
    answers.add_client_error("put_object", "PreconditionFailed", http_status_code=412)
    with pytest.raises(BucketError, match="refuses PutObject for s3://papers/abcb/x"):
        bucket.put("x", b"content")


def test_a_conditional_write_sends_the_etag_without_quotes(bucket, answers):
    expected = {
        "Bucket": "papers",
        "Key": "abcb/x",
        "Body": b"content",
        "ChecksumSHA256": ANY,
        "Metadata": {"papergrid-sha256": DIGEST.hexdigest()},
        "IfMatch": "abc",
    }
    answers.add_response("put_object", {"ETag": '"def"'}, expected)
    assert bucket.put("x", b"content", only_if="abc") == "def"


def test_an_absent_object_is_none(bucket, answers):
    answers.add_client_error("head_object", "404", http_status_code=404)
    # HEAD answers have no body: GET asks whether it is the store that says so.
    answers.add_client_error("get_object", "NoSuchKey", http_status_code=404)
    answers.add_client_error("get_object", "NoSuchKey", http_status_code=404)
    assert bucket.head("x") is None
    assert bucket.get("x") is None


def test_all_pages_of_a_listing_are_read_and_no_neighbour_of_the_prefix(bucket, answers):
    entry = {"Key": "abcb/a", "Size": 1, "ETag": '"1"', "LastModified": WRITTEN}
    count = {"KeyCount": 1}
    page = {"Contents": [entry], "IsTruncated": True, "NextContinuationToken": "more", **count}
    last = {"Contents": [{**entry, "Key": "abcb/b"}], "IsTruncated": False, **count}
    first = {"Bucket": "papers", "Prefix": "abcb/"}
    answers.add_response("list_objects_v2", page, first)
    answers.add_response("list_objects_v2", last, {**first, "ContinuationToken": "more"})
    assert [listed.name for listed in bucket.list()] == ["a", "b"]
