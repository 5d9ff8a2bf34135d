"""A terminal whose encoding lacks what is printed, or that closes while a command works."""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys


def print_any_name() -> None:
    """Have names of files that are not UTF-8 printed as they are, and `?` for foreign letters.

    Without this a folder with a Latin-1 name, or a terminal with another encoding, ends a command.
    """
    codecs.register_error("papergrid", _printable)
    for stream in (sys.stdout, sys.stderr):
        # Tests and notebooks have streams of other kinds.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="papergrid")


def _printable(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    # Python reads a byte that is no text as one of these 128 surrogates.
    data = bytes(ord(one) - 0xDC00 if 0xDC80 <= ord(one) <= 0xDCFF else ord("?") for one in text)
    return data, error.end


def leave_closed_terminal() -> None:
    """Send output to /dev/null where its terminal has closed: each write would fail with EIO."""
    for stream in (sys.stdout, sys.stderr):
        try:
            descriptor = stream.fileno()
        # A notebook's stream has none, or is closed.
        except (OSError, ValueError):
            continue
        if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
