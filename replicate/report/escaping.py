"""Escapes foreign text (names, errors, logs) for each form of the report. Pure.

Such text may hold anything: control characters, marks that turn the reading direction, markup of
the form into which it is put. Each function returns text that a reader sees as it
was written, and that no parser takes for a command.
"""

from __future__ import annotations

import re
from html import escape
from urllib.parse import quote

from merge.foreign_text import UNSEEN

_UNSEEN = re.compile(f"[{UNSEEN}]")

_IN_NO_PATH = re.compile(rf"{_UNSEEN.pattern}|[<>\\\t\n]")

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    # Without them the fonts that LaTeX begins with show other characters.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def visible(text: str) -> str:
    r"""`text` with each unseen character spelled out, such as `\x1b` or `\u202e`."""
    return _UNSEEN.sub(_spelled, text)


def one_line(text: str) -> str:
    """`visible` text with every run of white space as one space."""
    return visible(" ".join(text.split()))


def html_text(text: str) -> str:
    """For HTML, between tags and in quoted attributes."""
    return escape(visible(text))


def markdown_text(text: str) -> str:
    """For a line or a table's cell of Markdown: nothing ends the cell, opens a tag or is a link."""
    # A backslash before a pipe would escape ours, and the pipe would end the cell.
    text = re.sub(r"(\\*)\|", r"\1\1\\|", one_line(text))
    return re.sub(r"\]([(:\[])", r"]\\\1", text.replace("<", "&lt;"))


def markdown_path(path: str) -> str:
    """For a link target of Markdown that stands between `<` and `>`."""
    return _IN_NO_PATH.sub(lambda match: quote(match[0], errors="replace"), path)


def latex_text(text: str) -> str:
    """For LaTeX text, also at the beginning of a table's row."""
    text = "".join(_LATEX.get(character, character) for character in one_line(text))
    # `\\` ends a row, and takes a `[` or `*` at the start of the next one for its argument.
    return re.sub(r"^[\[*]", r"{\g<0>}", text)


def csv_text(text: str) -> str:
    """For CSV: a spreadsheet takes text with one of these first characters for a formula."""
    text = visible(text)
    # A negative number starts like a formula, but must stay a number. Some languages' spreadsheets
    # take the wide forms, too.
    return f"'{text}" if re.match(r"[=+\-@\t＝＋－＠]", text) and not _is_number(text) else text


def _spelled(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
