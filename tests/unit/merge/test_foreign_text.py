"""Text that others wrote reaches a terminal only as something to read."""

from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.foreign_text import guarded_output, harmless, one_line, raw_stream

HOSTILE = "\x1b]0;x\x07\x1b[2J\x9b31m\u202egnp\u2028\ufeff\x7f\rdone\udcff\U000e0041"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;x\a\x1b[2J", r"\u001b]0;x\u0007\u001b[2J"),
        ("a\x9b2Jb", r"a\u009b2Jb"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("50%\r100%", r"50%\u000d100%"),
        ("n\udcff", r"n\udcff"),
        ("\U000e0041", r"\udb40\udc41"),
        ("caf\xe9 \u4e2d\u6587 \U0001f600\tx\n", "caf\xe9 \u4e2d\u6587 \U0001f600\tx\n"),
    ],
)
def test_what_a_terminal_would_follow_is_spelled(text, shown):
    assert harmless(text) == shown


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from(HOSTILE + "\n\t"))))
def test_a_line_stays_one_line_and_printable(text):
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2028\ufeff" for c in shown)
    assert harmless(shown) == shown
    shown.encode()


@given(st.dictionaries(st.text(), st.text(alphabet=st.sampled_from(HOSTILE + "ab\n"))))
def test_printed_json_stays_the_same_json(document):
    text = harmless(json.dumps(document, ensure_ascii=False))
    assert json.loads(text) == document


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_another_locale_gets_what_it_has_and_the_rest_spelled(monkeypatch, encoding):
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding=encoding))
    document = {"caf\xe9": "\u4e2d \U0001f600 \x1b"}
    with guarded_output():
        print(json.dumps(document, ensure_ascii=False), flush=True)
    assert json.loads(data.getvalue().decode(encoding)) == document


def test_everything_that_is_printed_inside_is_harmless(capsys):
    @guarded_output()
    def print_both() -> None:
        print("out", HOSTILE)
        print("err", HOSTILE, file=sys.stderr)
        print("\x1b[1mbold", file=raw_stream(sys.stderr))
        sys.stdout.writelines(["a\x1b", "b\n"])
        assert not sys.stdout.isatty()

    before = sys.stdout, sys.stderr
    print_both()
    assert (sys.stdout, sys.stderr) == before
    captured = capsys.readouterr()
    assert captured.out == f"out {harmless(HOSTILE)}\na\\u001bb\n"
    assert captured.err == f"err {harmless(HOSTILE)}\n\x1b[1mbold\n"
