"""The runs that wait for devices, in the order in which they start, and those that wait longer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from merge.records.sweep import Run
from merge.storage.clock import Clock


class WaitingRuns:
    """A queue; a run that is tried again joins it when its delay is over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ready: deque[Run] = deque()
        self._delayed: list[tuple[float, Run]] = []

    def __bool__(self) -> bool:
        return bool(self._ready or self._delayed)

    @property
    def first(self) -> Run | None:
        """The run to start next; None where none is ready."""
        self._end_delays()
        return self._ready[0] if self._ready else None

    def pop(self) -> Run:
        """Take `first` off the queue."""
        return self._ready.popleft()

    def add(self, runs: Iterable[Run]) -> None:
        """`runs` come last."""
        self._ready.extend(runs)

    def delay(self, run: Run, wait_s: float) -> None:
        """`run` joins the queue again in `wait_s` seconds."""
        self._delayed.append((self._clock.monotonic() + wait_s, run))

    def drain(self) -> list[Run]:
        """All runs; none waits any more."""
        runs = [*self._ready, *(run for _, run in self._delayed)]
        self._ready.clear()
        self._delayed.clear()
        return runs

    def _end_delays(self) -> None:
        """Put runs whose delay is over first: they have waited longest."""
        now = self._clock.monotonic()
        due = [run for at, run in self._delayed if at <= now]
        self._delayed = [(at, run) for at, run in self._delayed if at > now]
        self._ready.extendleft(reversed(due))
