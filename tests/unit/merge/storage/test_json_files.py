"""Both parsers of JSON, `json` for small files and msgspec for large ones, say the same."""

from __future__ import annotations

import json
import os
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import RecordError
from merge.storage.json_files import compact_json, parse_json, read_json, write_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.fixture(params=["json", "msgspec"])
def parser(request, monkeypatch):
    """The parser that reads small files: msgspec does once a large file has loaded it."""
    if request.param == "json":
        monkeypatch.delitem(sys.modules, "msgspec")
    else:
        monkeypatch.setitem(sys.modules, "msgspec", msgspec)


@given(VALUES, st.booleans())
def test_a_value_is_read_as_the_standard_library_reads_it(value, is_ascii):
    text = json.dumps({"a": value}, ensure_ascii=is_ascii).encode()
    assert "msgspec" in sys.modules
    assert repr(parse_json("file", text)) == repr(json.loads(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"1" + b"0" * 400, 10**400),
        (b"18446744073709551616", 2**64),
        (b"-0", 0),
        (b"-0.0", -0.0),
        (b"9007199254740993.0", 9007199254740992.0),
        (b"1E5", 1e5),
        (b"5e-324", 5e-324),
        (b"0.1e-400", 0.0),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\ud800"', "?"),
        (b'"\\u0000"', "\0"),
        (b'"\\u0022, \\u0022"', '", "'),
        (b'[{"b": 1}, {"b": 2}]', [{"b": 1}, {"b": 2}]),
    ],
)
@pytest.mark.usefixtures("parser")
def test_an_odd_value_is_read_alike(text, value):
    read = parse_json("file", b'{"a": ' + text + b"}")
    assert repr(read) == repr({"a": value})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"NaN", "NaN is not JSON"),
        (b"-Infinity", "-Infinity is not JSON"),
        (b"1e999", "1e999 is larger than any number here"),
        (b"[1,]", "Expecting value: line 1 column 10"),
        (b"01", "Expecting ',' delimiter"),
        (b'"\x01"', "Invalid control character"),
        (b'"\xff"', "can't decode byte 0xff"),
        (b'{"b": 1, "b": 2}', "an object names 'b' twice: remove one of the two"),
        (b'[{"b" : 1,\n"\\u0062": "\\u0022\\u0022"}]', "an object names 'b' twice"),
        (b"[" * 100_000, "maximum recursion depth exceeded"),
    ],
)
@pytest.mark.usefixtures("parser")
def test_what_is_no_json_is_refused_alike(text, reason):
    with pytest.raises(RecordError, match=r"^file is not valid JSON") as refused:
        parse_json("file", b'{"a": ' + text + b"}")
    assert reason in str(refused.value)


@pytest.mark.usefixtures("parser")
def test_json_that_is_no_object_is_refused_alike():
    with pytest.raises(RecordError, match="holds a JSON list, not an object"):
        parse_json("file", b"[]")


def test_a_name_that_is_no_text_is_written_and_read_as_a_question_mark(tmp_path):
    """Of a Latin-1 folder: Python makes a single surrogate of its byte."""
    name = os.fsdecode(b"/data/caf\xe9")
    write_json(tmp_path / "record.json", {"cwd": name})
    assert json.loads((tmp_path / "record.json").read_bytes()) == {"cwd": name}
    assert read_json(tmp_path / "record.json") == {"cwd": "/data/caf?"}
    assert json.loads(compact_json({"cwd": name})) == {"cwd": name}
