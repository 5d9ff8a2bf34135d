"""Time for claims, heartbeats and stalls: passed in, so that a test can pass a clock of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """The clocks of one host, and waiting by them."""

    def now(self) -> float:
        """Unix time in seconds. It may jump, and no two hosts agree on it."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment of this host; never jumps, means nothing on another host."""
        ...

    def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The clocks of this host."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()
