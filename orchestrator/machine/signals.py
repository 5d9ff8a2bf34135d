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
_LAST_MINUTES_S = 300.0
"""A scheduler warns some minutes ahead of the end of a job's time."""


def meaning(number: signal.Signals, environment: Mapping[str, str], now: float) -> Cause:
    """Why signal `number` asks to stop at Unix time `now`: a person, or SLURM with its reason."""
    in_job = "SLURM_JOB_ID" in environment and number is signal.SIGTERM
    if number is not signal.SIGUSR2 and not in_job:
        return Cause.INTERRUPTED
    end = environment.get("SLURM_JOB_END_TIME", "")
    is_over = end.isdecimal() and int(end) - now < _LAST_MINUTES_S
    return Cause.TIME_LIMIT if is_over else Cause.PREEMPTED


@contextmanager
def stop_requests(on_request: Callable[[Cause], None]) -> Iterator[None]:
    """Call `on_request(cause)` at each Ctrl-C, SIGTERM, SIGUSR2 or hang-up.

    Inside a SLURM job SIGTERM counts once: SLURM repeats itself, and kills by itself. At the end
    all is put back.
    Only Python's main thread can have signal handlers: in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    is_in_job = "SLURM_JOB_ID" in os.environ
    was_told = False

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        nonlocal was_told
        if is_in_job and number == signal.SIGTERM:
            if was_told:
                return
            was_told = True
        on_request(meaning(signal.Signals(number), os.environ, time.time()))

    before = {number: signal.getsignal(number) for number in _REQUESTS}
    # What is ignored was meant to be ignored: nohup, or a job in a script's background.
    watched = [n for n, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in watched:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in watched:
            signal.signal(number, before[number])
