"""How long a trainer has written nothing, by this machine's own clock."""

from __future__ import annotations

import time
from pathlib import Path

from merge.storage.paths import AttemptPaths


class Silence:
    """Watches the files that an attempt writes as signs of life.

    Only changes of their times count, never the times themselves: a file server may have another
    clock.
    """

    def __init__(self, files: AttemptPaths) -> None:
        self._files = files
        self._sign = last_sign(files)
        self._since = time.monotonic()

    def seconds(self) -> float:
        """Since a change was last seen; look often."""
        sign = last_sign(self._files)
        if sign != self._sign:
            self._sign, self._since = sign, time.monotonic()
        return time.monotonic() - self._since


def last_sign(files: AttemptPaths) -> float | None:
    """Unix time at which an attempt's process last wrote something, as its file system tells."""
    signs = [
        sign for path in (files.events, files.stdout, files.stderr) if (sign := modified(path))
    ]
    return max(signs, default=None)


def modified(path: Path) -> float | None:
    """Unix time at which `path` was last written to; None where that cannot be told now."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None
