"""One limit for all transfers of a process: who wants to move bytes waits for their turn."""

from __future__ import annotations

import threading
import time


class Bandwidth:
    """At most `bytes_per_s` together; None is no limit. Safe for many threads."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, num_bytes: int) -> None:
        """Return when `num_bytes` may pass."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + num_bytes / self._bytes_per_s
        time.sleep(start - now)
