"""Runs without a result stand in every table, and the failed ones are counted by their cause."""

from __future__ import annotations

import json

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.records.records import AttemptRecord, Cause, Claim, Outcome
from merge.results.view import rebuild, rebuild_with_results
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import this_owner
from replicate import api
from replicate.cli.main import main
from replicate.report.forms import html_report, latex_report, markdown_report
from replicate.report.gather import read_report
from replicate.views.missing import read_missing

FAILED = "3 runs failed, by cause: 2 cuda_oom, 1 data"
CELLS = ("begun", "failed", "untouched")


def fail(output, run, cause: Cause) -> None:
    """Leave in the run's folder what an attempt that failed of `cause` leaves."""
    owner = this_owner()
    paths = SweepPaths(output).run(run.path)
    attempt = AttemptRecord(
        number=1,
        token="t",
        owner=owner,
        command=("true",),
        device="cpu",
        devices=("cpu0",),
        started=1.0,
        code={},
        ended=2.0,
        exit_code=1,
        outcome=Outcome.FAILED,
        cause=cause,
        reason="it broke",
    )
    paths.attempt(1).root.mkdir(parents=True)
    write_json(paths.attempt(1).record, attempt.to_json())
    claim = Claim(number=1, token="t", owner=owner, heartbeat=1.0, expiry_s=60, released=True)
    paths.claim(1).write_text(json.dumps(claim.to_json()))


@pytest.fixture
def output(tmp_path):
    """A cell with one result of two, one of which both runs failed, and one that never began."""
    sweep = make_grid(cells=CELLS, folds=(0, 1))
    write_sweep(tmp_path, sweep)
    write_result(tmp_path, sweep.runs[0], 0.5)
    fail(tmp_path, sweep.runs[1], Cause.DATA)
    for run in sweep.runs[2:4]:
        fail(tmp_path, run, Cause.CUDA_OOM)
    return tmp_path


def test_failures_are_counted_by_cause(output):
    missing = read_missing(output, rebuild(output))
    assert missing.failures() == FAILED
    assert set(missing.states) == {
        "begun-fold1",
        *(f"{cell}-fold{fold}" for cell in CELLS[1:] for fold in (0, 1)),
    }


def test_merge_shows_all_planned_cells_and_ends_with_3(output, capsys):
    assert main(["merge", str(output)]) == 3
    shown = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[2:5]}
    assert rows == {
        "begun": ["50.0", "failed", "incomplete", "-", "1/2"],
        "failed": ["failed", "failed", "-", "-", "0/2"],
        "untouched": ["-", "-", "-", "-", "0/2"],
    }
    assert "incomplete: begun lacks fold 1: no mean is shown" in shown
    assert "incomplete: 2 cells without a result: failed, untouched" in shown
    assert FAILED in shown
    assert api.merge(output).is_complete is False


@pytest.mark.parametrize("form", [markdown_report, html_report, latex_report])
def test_every_form_of_the_report_counts_the_failures(output, form):
    text = form(read_report(output, *rebuild_with_results(output)))
    assert FAILED in text.replace(r"\_", "_")
    assert all(cell in text for cell in CELLS)


def test_in_the_reports_table_failed_runs_stand_as_failed(output):
    text = markdown_report(read_report(output, *rebuild_with_results(output)))
    assert "| failed | failed | failed | – | – | 0/2 | incomplete |" in text


def test_a_result_that_cannot_count_is_not_shown_as_done(output):
    write_result(output, make_grid(cells=CELLS, folds=(0, 1)).runs[4], 66.3)
    merged = rebuild(output)
    missing = read_missing(output, merged)
    assert missing.text(merged.sweep.runs[4]) == "not counted"
