"""Failures of a file system that may pass by themselves, and how an operation is repeated."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TypeVar

from merge.storage.clock import SYSTEM_CLOCK

_PASSING = frozenset(
    {
        # A disk or a file server that fails for a moment, or is mounted again.
        *(errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.ENODEV, errno.EBUSY, errno.EINTR),
        # A file server or a FUSE process that does not answer.
        *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
        *(
            errno.ENOTCONN,
            errno.ECONNREFUSED,
            errno.ECONNRESET,
            errno.ECONNABORTED,
            errno.ESHUTDOWN,
        ),
        # Memory, processes or open files that others use now.
        *(errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE),
    }
)
READ_WAITS_S = (0.02, 0.1)
WRITE_WAITS_S = (0.05, 0.2, 0.5)
"""Seconds before each repetition: a blip is over, and a broken disk costs less than a second."""

_Done = TypeVar("_Done")


def may_pass(error: BaseException | None) -> bool:
    """Whether `error`, or the OSError that it was made of, may be gone at the next try."""
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return error is not None and isinstance(error.__cause__, OSError) and may_pass(error.__cause__)


def repeated(
    do: Callable[[], _Done],
    waits_s: Sequence[float] = WRITE_WAITS_S,
    sleep: Callable[[float], object] = SYSTEM_CLOCK.sleep,
) -> _Done:
    """What `do()` returns; called again after each of `waits_s` while it fails in a passing way.

    `do` must be safe to call again after a failure. The last failure is raised.
    """
    for wait_s in waits_s:
        try:
            return do()
        except Exception as error:
            if not may_pass(error):
                raise
        sleep(wait_s)
    return do()
