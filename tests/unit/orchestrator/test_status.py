"""The state of a sweep as data."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.errors import IncompleteError
from merge.records.records import AttemptRecord, Claim, Outcome
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import this_owner
from orchestrator.runs.states import State
from orchestrator.status import read_status
from replicate import api
from replicate.views.forecast import forecast


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """One run done, one claimed by this process, the others pending."""
    sweep = make_grid(cells=("a", "b"))
    write_sweep(tmp_path, sweep)
    write_result(tmp_path, sweep.runs[0], 0.5)
    paths = SweepPaths(tmp_path).run(sweep.runs[1].path)
    paths.root.mkdir(parents=True, exist_ok=True)
    claim = Claim(number=1, token="t", owner=this_owner(), heartbeat=time.time(), expiry_s=60)
    paths.claim(1).write_text(json.dumps(claim.to_json()))
    return tmp_path


def test_every_run_has_its_state_and_every_cell_counts_them(output):
    status = read_status(output, time.time())
    sweep = status.merged.sweep
    assert [entry.run for entry in status.runs] == list(sweep.runs)
    assert [entry.state.state for entry in status.runs[:3]] == [
        State.DONE,
        State.CLAIMED,
        State.PENDING,
    ]
    assert status.counts == {
        State.DONE: 1,
        State.CLAIMED: 1,
        State.PENDING: len(sweep.runs) - 2,
    }
    assert [cell.cell for cell in status.cells] == list(
        dict.fromkeys(run.cell for run in sweep.runs)
    )
    assert sum(sum(cell.counts.values()) for cell in status.cells) == len(sweep.runs)
    assert not any(cell.is_complete for cell in status.cells)


def test_a_cell_is_complete_when_all_its_runs_are_done(output):
    sweep = read_status(output, time.time()).merged.sweep
    cell = sweep.runs[-1].cell
    for run in sweep.runs:
        if run.cell == cell:
            write_result(output, run, 0.5)
    complete = {one.cell: one.is_complete for one in read_status(output, time.time()).cells}
    assert complete[cell]
    assert not all(complete.values())


def test_the_jobs_of_every_submission_to_slurm_are_listed(output):
    run_ids = [run.run_id for run in read_status(output, time.time()).merged.sweep.runs[:1]]
    folder = SweepPaths(output).submission("20260101-000000-ab").root
    folder.mkdir(parents=True)
    array = {"name": "runs", "tasks": [run_ids, []], "job_id": "12"}
    record = {
        **{"schema": 1, "kind": "slurm", "id": "20260101-000000-ab", "created": 5.0},
        **{"by": "ana", "host": "login", "arrays": [array]},
        "merge": {"name": "merge", "tasks": [], "job_id": None},
    }
    SweepPaths(output).submission("20260101-000000-ab").record.write_text(json.dumps(record))
    jobs = read_status(output, time.time()).jobs
    assert [(job.name, job.job_id, job.num_tasks, job.num_runs) for job in jobs] == [
        ("runs", "12", 2, 1),
        ("merge", None, 0, 0),
    ]
    assert {(job.submission, job.created) for job in jobs} == {("20260101-000000-ab", 5.0)}


def test_without_sources_only_the_plan_and_the_single_results_are_left_out(output):
    full = read_status(output, time.time()).merged.document
    brief = read_status(output, time.time(), has_sources=False).merged.document
    assert brief == {key: value for key, value in full.items() if key not in ("plan", "runs")}
    assert full["runs"]


def test_reading_a_status_writes_nothing(output):
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    read_status(output, time.time())
    after = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert after == before


def test_a_folder_without_a_sweep_has_no_status(tmp_path):
    with pytest.raises(IncompleteError):
        read_status(tmp_path, time.time())


def test_status_and_plan_expect_the_same_hours_of_an_interrupted_and_resumed_run(tmp_path):
    sweep = make_grid(cells=("a", "b"), folds=(0, 1))
    write_sweep(tmp_path, sweep)
    # Ten hours until it was interrupted, then six minutes to its end.
    first = {"number": 1, "token": "t", "owner": this_owner(), "command": (), "device": "cpu"}
    attempt = AttemptRecord(
        **first, devices=(), code={}, started=0.0, ended=36_000.0, outcome=Outcome.INTERRUPTED
    )
    done = SweepPaths(tmp_path).run(sweep.runs[0].path)
    write_json(done.attempt(1).record, attempt.to_json())
    write_result(tmp_path, sweep.runs[0], 0.5, attempt=2, started=40_000.0, finished=40_360.0)
    outlook = read_status(tmp_path, time.time()).outlook
    planned = forecast(api.frozen_plan(tmp_path))
    assert outlook.training_h == pytest.approx(3 * 10.1)
    assert (planned.num_left, planned.left_h) == (3, pytest.approx(outlook.training_h))
