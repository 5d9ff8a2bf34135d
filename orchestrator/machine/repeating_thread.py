"""A thread that repeats one call, as heartbeats need it: a failure never ends it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from merge.errors import PapergridError
from orchestrator.machine.limits import start_thread

_log = logging.getLogger(__name__)


class RepeatingThread:
    """Calls `repeat()` every `interval_s` seconds, the first time after one interval.

    Used in a `with` block, or from `start` to `stop`. What `repeat` raises is logged.
    """

    def __init__(self, name: str, interval_s: float, repeat: Callable[[], object]) -> None:
        self._name = name
        self._interval_s = interval_s
        self._repeat = repeat
        self._end = threading.Event()
        # A daemon: a process that fails before `stop` must still be able to exit.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> RepeatingThread:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """SystemLimitError where the system gives no thread now."""
        start_thread(self._thread)

    def stop(self) -> None:
        """No further call begins; returns when the one in progress has ended."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._interval_s):
            with failures_logged(self._name):
                self._repeat()


@contextmanager
def failures_logged(name: str) -> Iterator[None]:
    """Log what the block raises, and go on: a file system may be away for a minute."""
    try:
        yield
    # What the world refuses needs no traceback, and a full disk refuses every few seconds.
    except (PapergridError, OSError) as error:
        _log.warning("%s failed; it is tried again: %s", name, error)
    except Exception:  # noqa: BLE001
        _log.exception("%s failed; it is tried again", name)
