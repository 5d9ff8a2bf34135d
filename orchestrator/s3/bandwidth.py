"""A limit on bytes per second that all transfers of a process share."""

from __future__ import annotations

import threading
import time


class BandwidthLimit:
    """At most `bytes_per_s` over all threads; None is no limit. Safe for many threads."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0
        """Monotonic time at which all bytes admitted so far have passed."""

    def acquire(self, num_bytes: int) -> None:
        """Block until `num_bytes` may be sent or received."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + num_bytes / self._bytes_per_s
        # Outside of the lock: the next thread queues up behind this one without waiting here.
        time.sleep(start - now)
