"""Requests to stop: the signals that a person, a terminal or a scheduler sends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from merge.records.records import Cause

_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_WARNING_TIME_S = 300.0
"""A signal so shortly before the end of a job counts as the warning of its time limit."""
_HANG_UP_S = 2.0
"""Signals so shortly before and after a hang-up have the same origin: a terminal that closes.

The kernel and the shell each send SIGHUP (measured: within 2 ms), systemd sends SIGTERM and SIGHUP
to what a login leaves behind.
"""


def cause_of_signal(number: signal.Signals, environment: Mapping[str, str], now: float) -> Cause:
    """Why signal `number` requests a stop at Unix time `now`: a person, pre-emption, time limit."""
    in_job = "SLURM_JOB_ID" in environment and number is signal.SIGTERM
    if number is not signal.SIGUSR2 and not in_job:
        return Cause.INTERRUPTED
    end = environment.get("SLURM_JOB_END_TIME", "")
    is_over = end.isdecimal() and int(end) - now < _WARNING_TIME_S
    return Cause.TIME_LIMIT if is_over else Cause.PREEMPTED


@contextmanager
def stop_requests(on_request: Callable[[Cause], None]) -> Iterator[None]:
    """Call `on_request(cause)` at each Ctrl-C, SIGTERM, SIGUSR2 or hang-up; at the end reset all.

    A terminal that closes is one request, although it sends several signals. Inside a SLURM job
    only the first SIGTERM counts: SLURM sends it repeatedly, and a second one from a person means
    `kill now`. Python allows signal handlers in the main thread only: in another thread this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    repeats = _Repeats(is_in_job="SLURM_JOB_ID" in os.environ)

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if not repeats.has(number, time.monotonic()):
            on_request(cause_of_signal(signal.Signals(number), os.environ, time.time()))

    before = {number: signal.getsignal(number) for number in _REQUESTS}
    # An ignored signal stays ignored: nohup, or a background job of a shell script.
    watched = [n for n, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in watched:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in watched:
            signal.signal(number, before[number])


class _Repeats:
    """Which signals belong to a request that was made already."""

    def __init__(self, *, is_in_job: bool) -> None:
        self._is_in_job = is_in_job
        self._seen: dict[int, float] = {}
        """Signal -> monotonic time at which it last came."""

    def has(self, number: int, now: float) -> bool:
        """Whether the signal `number`, which comes `now`, repeats an earlier request."""
        seen = dict(self._seen)
        self._seen[number] = now
        if self._is_in_job and number == signal.SIGTERM and number in seen:
            return True
        near = [one for one, at in seen.items() if now - at < _HANG_UP_S]
        return signal.SIGHUP in near or (number == signal.SIGHUP and bool(near))
