"""Waiting longer and longer, never in step with others."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from merge.errors import BucketUnavailableError

_FIRST_S = 0.2
_LONGEST_S = 20.0

_T = TypeVar("_T")


def delay_s(attempt: int, longest_s: float = _LONGEST_S) -> float:
    """How long to wait after the failed `attempt` (from 0): random, its upper limit doubling."""
    limit_s = min(longest_s, _FIRST_S * 2.0 ** min(attempt, 20))
    return random.uniform(0.5, 1.0) * limit_s


def patiently(action: Callable[[], _T], tries: int, wait: Callable[[float], object]) -> _T:
    """What `action` returns at last; its error where waiting does not help or `tries` are over."""
    for attempt in range(tries - 1):
        try:
            return action()
        except BucketUnavailableError as error:
            if not error.is_transient:
                raise
            wait(delay_s(attempt))
    return action()
