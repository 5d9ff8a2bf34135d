"""Requests to stop: the signals that a person, a terminal or a scheduler sends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stop_requests(on_request: Callable[[], None]) -> Iterator[None]:
    """Call `on_request()` at each Ctrl-C, SIGTERM or hang-up; at the end put all back.

    Inside a SLURM job SIGTERM counts once: SLURM repeats itself, and kills by itself.

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
        on_request()

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
