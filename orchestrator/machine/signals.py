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

    Inside a SLURM job only the first SIGTERM counts: SLURM sends it repeatedly, and a second one
    from a person means `kill now`. Python allows signal handlers in the main thread only: in
    another thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    is_in_job = "SLURM_JOB_ID" in os.environ
    has_sigterm = False

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal has_sigterm
        if is_in_job and number == signal.SIGTERM:
            if has_sigterm:
                return
            has_sigterm = True
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
