"""How long a trainer has written nothing, by this machine's own clock."""

from __future__ import annotations

from pathlib import Path

from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.disk import SYSTEM_DISK, Disk
from merge.storage.paths import AttemptPaths


class Silence:
    """Watches the files that an attempt writes while it works.

    Only changes of their times count, never the times themselves: a file server may have another
    clock.
    """

    def __init__(self, files: AttemptPaths, clock: Clock = SYSTEM_CLOCK) -> None:
        self._files = files
        self._clock = clock
        self._last = last_output(files)
        self.begun = self._since = clock.monotonic()

    def seconds(self) -> float:
        """Since a change was last seen; look often."""
        last, now = last_output(self._files), self._clock.monotonic()
        if last != self._last:
            self._last, self._since = last, now
        return now - self._since


def last_output(files: AttemptPaths) -> float | None:
    """Unix time of an attempt's last output, by the clock of its file system; None: none yet."""
    written = (files.events, files.stdout, files.stderr)
    times = [time for path in written if (time := modified(path, files.disk))]
    return max(times, default=None)


def modified(path: Path, disk: Disk = SYSTEM_DISK) -> float | None:
    """Unix time at which `path` was last written to; None where that cannot be known now."""
    try:
        return disk.status(path).st_mtime
    except OSError:
        return None
