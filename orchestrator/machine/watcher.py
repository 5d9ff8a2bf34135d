"""Threads that wait for the end of a child process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

from orchestrator.machine.limits import start_thread


class Watcher:
    """Calls `on_exit()` from a thread of its own when a child has ended; it stays a zombie.

    The thread is made before the child: a child whose end is not noticed would be an orphan. Call
    `watch` or `cancel`. SystemLimitError where no thread is to be had.
    """

    def __init__(self, on_exit: Callable[[], None]) -> None:
        self._on_exit = on_exit
        self._child: SimpleQueue[int | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._wait, name="watch", daemon=True)
        start_thread(self._thread)

    def watch(self, pid: int) -> None:
        """Wait for the child `pid` from now on."""
        self._child.put(pid)

    def cancel(self) -> None:
        """There is no child to wait for."""
        self._child.put(None)
        self._thread.join()

    def join(self) -> None:
        """Return when the child has ended and `on_exit` was called."""
        self._thread.join()

    def _wait(self) -> None:
        pid = self._child.get()
        if pid is not None:
            # WNOWAIT: as a zombie it keeps its id, so that no kill meets a foreign group.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            self._on_exit()
