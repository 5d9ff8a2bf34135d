"""What a SLURM task knows of itself: its runs, whether it is queued again, why it was stopped."""

from __future__ import annotations

import json
import os

import pytest
from support import fake_slurm
from support.sweeps import make_sweep, shell

from merge.errors import UsageError
from merge.paths import SweepPaths
from merge.records import Cause
from orchestrator.happenings import Fate, LocalReport, RunEnded
from orchestrator.slurm_worker import StopAsked, queue_again, task_runs, why_stopped

TASK = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """State of fake SLURM commands, which are on PATH."""
    folder = tmp_path / "slurm"
    monkeypatch.setenv("PATH", f"{fake_slurm.install(folder)}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    return folder


def test_a_task_finds_its_runs_by_its_index(tmp_path):
    arrays = [
        {"name": "array-1", "tasks": [["a"], ["b"]], "job_id": "1"},
        {"name": "array-2", "tasks": [["c", "d"]], "job_id": None},
    ]
    record = {"schema": 1, "kind": "slurm", "id": "x", "created": 0, "by": "a", "host": "b"}
    path = SweepPaths(tmp_path).submission("x").record
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**record, "arrays": arrays, "merge": None}))
    assert task_runs(tmp_path, "x", "array-2", {**TASK, "SLURM_ARRAY_TASK_ID": "0"}) == ("c", "d")
    with pytest.raises(UsageError, match="no task 3 in array-1"):
        task_runs(tmp_path, "x", "array-1", TASK)
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        outside = {key: value for key, value in TASK.items() if key != name}
        with pytest.raises(UsageError, match="are not set: --submission is for tasks"):
            task_runs(tmp_path, "x", "array-1", outside)


def report(*fates: Fate, was_stopped: bool = True) -> LocalReport:
    runs = make_sweep(shell("true"), folds=len(fates)).runs
    endings = {
        run.run_id: RunEnded(run=run, fate=fate) for run, fate in zip(runs, fates, strict=True)
    }
    return LocalReport(endings=endings, was_stopped=was_stopped)


@pytest.mark.parametrize(
    ("ended", "state", "restarts", "is_queued"),
    [
        (report(Fate.INTERRUPTED), "RUNNING", "", True),
        (report(Fate.DONE, Fate.NOT_STARTED), "RUNNING", "3", True),
        (report(Fate.ELSEWHERE), "RUNNING", "", True),
        (report(Fate.DONE), "RUNNING", "", False),
        (report(Fate.FAILED), "RUNNING", "", False),
        (report(Fate.INTERRUPTED), "CANCELLED", "", False),
        (report(Fate.INTERRUPTED), "COMPLETING", "", False),
        (report(Fate.INTERRUPTED), "RUNNING", "500", False),
        (report(Fate.ELSEWHERE, was_stopped=False), "RUNNING", "", False),
    ],
)
def test_a_task_is_queued_again_only_where_it_was_stopped_with_work_left(
    fake, ended, state, restarts, is_queued
):
    (fake / "rows").write_text(f"12_3|{state}|None|node1|0|N/A\n")
    environment = {**TASK, "SLURM_RESTART_COUNT": restarts}
    assert queue_again(ended, StopAsked(), environment) is is_queued
    calls = (fake / "calls").read_text() if (fake / "calls").exists() else ""
    # The raw id of one task is that of the whole array too.
    assert ("scontrol requeue 12_3\n" in calls) is is_queued
    assert "requeue 12\n" not in calls


def test_a_task_that_is_told_to_stop_between_runs_is_queued_again(fake):
    (fake / "rows").write_text("12_3|RUNNING|None|node1|0|N/A\n")
    assert queue_again(report(Fate.ELSEWHERE, was_stopped=False), StopAsked(is_set=True), TASK)


@pytest.mark.parametrize(
    ("told", "row", "restarts", "why"),
    [
        (Cause.PREEMPTED, "COMPLETING|None|node1|0|N/A", "", Cause.CANCELLED),
        (Cause.PREEMPTED, "CANCELLED|None|node1|2|N/A", "2", Cause.CANCELLED),
        (Cause.TIME_LIMIT, "COMPLETING|None|node1|0|N/A", "", Cause.CANCELLED),
        (Cause.TIME_LIMIT, "COMPLETING|TimeLimit|node1|0|N/A", "", Cause.TIME_LIMIT),
        (Cause.PREEMPTED, "COMPLETING|None|node1|1|N/A", "", Cause.PREEMPTED),
        (Cause.PREEMPTED, "RUNNING|None|node1|0|2026-11-24T22:10:42", "", Cause.PREEMPTED),
        (Cause.PREEMPTED, "COMPLETING|None|node1|0|2026-11-24T22:10:42", "", Cause.PREEMPTED),
        (Cause.PREEMPTED, "RUNNING|None|node1|0|N/A", "", Cause.PREEMPTED),
        (Cause.INTERRUPTED, "COMPLETING|None|node1|0|N/A", "", Cause.INTERRUPTED),
    ],
)
def test_a_task_was_cancelled_where_slurm_ends_it_and_nothing_else_explains_that(
    fake, told, row, restarts, why
):
    (fake / "rows").write_text(f"12_3|{row}\n")
    assert why_stopped(told, {**TASK, "SLURM_RESTART_COUNT": restarts}) is why


def test_why_a_task_is_stopped_stays_what_its_signal_says_where_slurm_is_silent(fake):
    (fake / "bin" / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm' >&2; exit 1\n")
    assert why_stopped(Cause.PREEMPTED, TASK) is Cause.PREEMPTED
