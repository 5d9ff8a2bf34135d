"""What is asked of a server for the rest of a file, and which answers are accepted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.datasets.prepare.ranges import (
    Remote,
    WrongFileError,
    WrongRangeError,
    range_headers,
    read_answer,
)

URL = "http://host/a.zip"
BEGUN = Remote(URL, '"v1"', 100)


@pytest.mark.parametrize(
    ("part_bytes", "begun", "url", "has_digest", "wanted"),
    [
        (0, BEGUN, URL, True, {}),
        (40, None, URL, True, {}),
        (40, BEGUN, URL, False, {"Range": "bytes=40-", "If-Range": '"v1"'}),
        (40, BEGUN, "http://other/a.zip", True, {"Range": "bytes=40-"}),
        (40, BEGUN, "http://other/a.zip", False, {}),
        (40, Remote(URL, "", 100), URL, True, {"Range": "bytes=40-"}),
        (40, Remote(URL, "", 100), URL, False, {}),
        (40, Remote(URL, '"v1"', None), URL, True, {}),
        (100, BEGUN, URL, True, {}),
        (101, BEGUN, URL, True, {}),
    ],
)
def test_the_rest_is_asked_for_only_where_it_cannot_be_glued_to_another_file(
    part_bytes, begun, url, has_digest, wanted
):
    assert range_headers(part_bytes, begun, url, has_digest=has_digest) == wanted


def answer(status, *, part_bytes=40, begun=BEGUN, known_bytes=100, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_answer(
        status, named, URL, part_bytes=part_bytes, begun=begun, known_bytes=known_bytes
    )


def test_a_part_is_appended_and_a_whole_file_begins_at_zero():
    part = answer(206, content_range="bytes 40-99/100", etag='"v1"')
    assert (part.offset, part.remote) == (40, BEGUN)
    whole = answer(200, content_length="100", etag='"v2"')
    assert (whole.offset, whole.remote) == (0, Remote(URL, '"v2"', 100))


@pytest.mark.parametrize("content_range", ["bytes 41-99/100", "bytes 0-99/100", "bytes */100", ""])
def test_a_part_from_elsewhere_is_refused(content_range):
    with pytest.raises(WrongRangeError):
        answer(206, content_range=content_range)


def test_a_part_of_a_file_of_another_length_is_refused():
    with pytest.raises(WrongRangeError):
        answer(206, content_range="bytes 40-119/120", known_bytes=None)


def test_a_file_of_another_length_than_the_published_one_is_refused():
    with pytest.raises(WrongFileError, match="99 bytes"):
        answer(200, content_length="99")


def test_a_server_may_keep_the_length_to_itself():
    assert answer(200).remote.total_bytes is None


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": '"a"', "last_modified": "Mon"}, '"a"'),
        ({"etag": 'W/"a"', "last_modified": "Mon"}, "Mon"),
        ({"etag": 'W/"a"'}, ""),
        ({}, ""),
    ],
)
def test_a_weak_etag_does_not_identify_bytes(headers, validator):
    assert answer(200, **headers).remote.validator == validator


@given(
    part=st.integers(0, 200),
    total=st.none() | st.integers(0, 200),
    validator=st.sampled_from(["", '"v1"']),
    is_same_url=st.booleans(),
    has_digest=st.booleans(),
)
def test_an_unconfirmed_continuation_is_only_asked_for_where_a_digest_is_known(
    part, total, validator, is_same_url, has_digest
):
    begun = Remote(URL if is_same_url else "http://other/", validator, total)
    headers = range_headers(part, begun, URL, has_digest=has_digest)
    if "Range" in headers:
        assert total is not None
        assert 0 < part < total
        assert headers["Range"] == f"bytes={part}-"
        assert has_digest or (is_same_url and headers["If-Range"] == validator != "")
