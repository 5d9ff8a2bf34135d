"""Requests to stop, by real signals to this process."""

from __future__ import annotations

import os
import signal

import pytest

from merge.records.records import Cause
from orchestrator.machine.signals import stop_requests


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (None, [Cause.INTERRUPTED, Cause.INTERRUPTED]),
        # SLURM sends it again by itself: a person's second one would kill without a checkpoint.
        ("7", [Cause.PREEMPTED]),
    ],
)
def test_a_second_sigterm_counts_only_outside_of_a_job(monkeypatch, job, told):
    if job is None:
        monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    else:
        monkeypatch.setenv("SLURM_JOB_ID", job)
    seen: list[Cause] = []
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests(seen.append):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
    assert seen == told
    assert signal.getsignal(signal.SIGTERM) is before


HANG_UP, TERM, CTRL_C = signal.SIGHUP, signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize(
    ("signals", "count"),
    [
        # A terminal that closes; systemd, which ends what a login left behind.
        ([(0.0, HANG_UP), (0.002, HANG_UP)], 1),
        ([(0.0, TERM), (0.001, HANG_UP)], 1),
        ([(0.0, HANG_UP), (0.5, HANG_UP), (0.6, TERM)], 1),
        # A person, later and on purpose.
        ([(0.0, HANG_UP), (0.002, HANG_UP), (5.0, HANG_UP)], 2),
        ([(0.0, HANG_UP), (4.0, TERM)], 2),
        ([(0.0, CTRL_C), (0.3, CTRL_C)], 2),
    ],
)
def test_the_signals_of_a_closing_terminal_are_one_request(monkeypatch, signals, count):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    times = iter([at for at, _ in signals])
    monkeypatch.setattr("orchestrator.machine.signals.time.monotonic", lambda: next(times))
    seen: list[Cause] = []
    with stop_requests(seen.append):
        for _, number in signals:
            os.kill(os.getpid(), number)
    assert len(seen) == count
