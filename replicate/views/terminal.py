"""A terminal that may close while a command works."""

from __future__ import annotations

import os
import stat
import sys


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
