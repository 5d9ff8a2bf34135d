"""How buckets, endpoints and rates may be written; and the waiting between attempts."""

from __future__ import annotations

import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import BucketError, BucketUnavailableError, UsageError
from orchestrator.s3.backoff import backoff_s, retry_with_backoff
from orchestrator.s3.bandwidth import BandwidthLimit
from orchestrator.s3.url import BucketUrl, parse_endpoint, parse_rate, parse_url

NAMES = st.from_regex(r"[a-z0-9_=.-]{1,9}", fullmatch=True).filter(lambda n: n not in (".", ".."))


@given(st.lists(NAMES, max_size=3), st.lists(NAMES, min_size=1, max_size=3))
def test_names_and_keys_are_opposites(prefix: list[str], parts: list[str]):
    url = parse_url("s3://bucket/" + "/".join(prefix))
    name = "/".join(parts)
    assert url.name(url.key(name)) == name
    assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    "text",
    ["bucket/x", "https://bucket/x", "s3://", "s3://B/x", "s3://ab", "s3://bucket/a/../b", "s3:x"],
)
def test_a_text_that_is_not_an_s3_url_is_refused(text: str):
    with pytest.raises(UsageError):
        parse_url(text)


def test_slashes_at_the_ends_do_not_count():
    assert parse_url("s3://bucket/a/b/") == BucketUrl("bucket", "a/b")
    assert parse_url("s3://bucket") == parse_url("s3://bucket/") == BucketUrl("bucket", "")


@pytest.mark.parametrize(
    ("text", "rate"), [("50MB/s", 5e7), ("500kB", 5e5), ("1.5 GB/s", 1.5e9), ("7B/s", 7.0)]
)
def test_a_rate_is_bytes_a_second(text: str, rate: float):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["50", "0MB/s", "-1MB/s", "50Mb/s", "fast", ""])
def test_a_text_that_is_not_a_rate_is_refused(text: str):
    with pytest.raises(UsageError):
        parse_rate(text)


@pytest.mark.parametrize("text", ["s3.example.org", "ftp://s3.example.org", "http://"])
def test_a_text_that_is_not_an_endpoint_is_refused(text: str):
    with pytest.raises(UsageError):
        parse_endpoint(text)


@given(st.integers(0, 10_000))
def test_waiting_grows_to_a_limit(attempt: int):
    assert 0.1 <= backoff_s(attempt, longest_s=20.0) <= 20.0


@pytest.mark.parametrize(("is_transient", "tries"), [(True, 4), (False, 1)])
def test_only_transient_errors_are_retried(is_transient: bool, tries: int):
    waits: list[float] = []
    calls: list[None] = []

    def action() -> None:
        calls.append(None)
        raise BucketUnavailableError("away", is_transient)

    with pytest.raises(BucketUnavailableError, match="away"):
        retry_with_backoff(action, 4, waits.append)
    assert (len(calls), len(waits)) == (tries, tries - 1)


def test_a_refusal_is_not_retried():
    calls: list[None] = []

    def action() -> None:
        calls.append(None)
        raise BucketError("denied")

    with pytest.raises(BucketError):
        retry_with_backoff(action, 4, lambda _: None)
    assert len(calls) == 1


def test_an_unavailable_store_survives_pickling():
    error = pickle.loads(pickle.dumps(BucketUnavailableError("away", False)))
    assert (str(error), error.is_transient, error.exit_code) == ("away", False, 75)


def test_bytes_wait_for_their_turn():
    bandwidth = BandwidthLimit(1e6)
    start = time.monotonic()
    for _ in range(3):
        bandwidth.acquire(100_000)
    assert time.monotonic() - start >= 0.2
