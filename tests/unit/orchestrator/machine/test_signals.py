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
