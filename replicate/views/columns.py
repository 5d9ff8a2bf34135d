"""Rows of text as lines: in columns, or one below the other where the terminal is too narrow."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from merge.foreign_text import one_line

_NARROWEST = 20


def align(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Columns of text, the first `left` ones to the left; a rule below the header.

    Where they are wider than the terminal each row is a block, a line for each of its cells: lines
    that a terminal wraps cannot be read as columns.
    """
    # Names and reasons are what others wrote.
    rows = [[one_line(text) for text in row] for row in rows]
    lines = _columns(rows, left)
    width = _terminal_width()
    if width is None or max(map(len, lines)) <= width:
        return lines
    return list(_blocks(rows, max(width, _NARROWEST)))


def _columns(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if i < left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _blocks(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    header, *others = rows
    label_width = max(map(len, header))
    for row in others:
        cells = [pair for pair in zip(header, row, strict=True) if pair[1]]
        for index, (label, text) in enumerate(cells):
            # The first one names the row.
            begin = "" if index == 0 else f"  {label.ljust(label_width)}  "
            yield from textwrap.wrap(
                text,
                width,
                initial_indent=begin,
                subsequent_indent=" " * len(begin),
                break_on_hyphens=False,
            )


def _terminal_width() -> int | None:
    """Columns of the terminal; None where there is none."""
    # A pipe has no width, whatever COLUMNS says: what reads it takes whole rows.
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
