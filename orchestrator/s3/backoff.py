"""Retry with exponential back-off, for requests that may succeed a moment later."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from merge.errors import BucketUnavailableError

_T = TypeVar("_T")

_FIRST_S = 0.2
_LONGEST_S = 20.0
_MAX_DOUBLINGS = 20
"""2.0 ** 1024 raises OverflowError, and a backlog may fail for days."""


def backoff_s(attempt: int, longest_s: float = _LONGEST_S) -> float:
    """Seconds to wait after the failed `attempt` (from 0): random, with a limit that doubles.

    At least half of the limit, at most `longest_s`.
    """
    limit_s = min(longest_s, _FIRST_S * 2.0 ** min(attempt, _MAX_DOUBLINGS))
    # Random, because servers that failed at the same moment must not retry at the same moment.
    return random.uniform(0.5, 1.0) * limit_s


def retry_with_backoff(
    action: Callable[[], _T], max_attempts: int, sleep: Callable[[float], object]
) -> _T:
    """What `action` returns, tried up to `max_attempts` times.

    Only a BucketUnavailableError with `is_transient` is retried. Every other error, and the last
    one, is raised. `sleep` takes seconds.
    """
    for attempt in range(max_attempts - 1):
        try:
            return action()
        except BucketUnavailableError as error:
            if not error.is_transient:
                raise
            sleep(backoff_s(attempt))
    return action()
