"""Processes, threads and open files that the system does not give now."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from merge.errors import SystemLimitError

WAITS_S = (0.1, 0.3, 0.6, 1.0)
"""Seconds before each further try: other processes end meanwhile."""
_SHORTAGES = {
    errno.EAGAIN: "no further process or thread is allowed (`ulimit -u`, a container's pids limit)",
    errno.ENOMEM: "the machine has no memory left",
    errno.EMFILE: "too many files are open in this process (`ulimit -n`)",
    errno.ENFILE: "too many files are open on this machine",
}

_Done = TypeVar("_Done")


def is_shortage(error: OSError) -> bool:
    """Whether `error` says that something is used up that other processes may give back."""
    return error.errno in _SHORTAGES


def shortage(what: str, error: OSError) -> SystemLimitError:
    """The error that `what` cannot be started, with the limit that was met."""
    return SystemLimitError(f"{what} cannot be started now: {_SHORTAGES[error.errno or 0]}")


def start_thread(thread: threading.Thread) -> None:
    """Start `thread`. SystemLimitError where the system gives no thread now."""
    try:
        thread.start()
    # Python's own text is all that it says: "can't start new thread".
    except RuntimeError as error:
        raise shortage(f"the thread {thread.name!r}", OSError(errno.EAGAIN, "")) from error


def patiently(
    start: Callable[[], _Done],
    sleep: Callable[[float], object],
    waits_s: Sequence[float] = WAITS_S,
) -> _Done:
    """What `start()` returns; called again after each of `waits_s` where a limit is met."""
    for wait_s in waits_s:
        try:
            return start()
        except SystemLimitError:
            sleep(wait_s)
    return start()
