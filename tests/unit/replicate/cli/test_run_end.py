"""What `replicate run` prints once all is trained."""

from __future__ import annotations

import argparse

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.errors import StorageError
from orchestrator.local.events import LocalReport, RunEnded, RunOutcome
from replicate.cli.verbs.run import _show_end
from replicate.report import gather

SWEEP = make_grid()
DONE = LocalReport(
    endings={run.run_id: RunEnded(run=run, outcome=RunOutcome.DONE) for run in SWEEP.runs},
    was_stopped=False,
)


def show_end(output) -> int:
    write_sweep(output, SWEEP)
    for run in SWEEP.runs:
        write_result(output, run, 0.5)
    return _show_end(DONE, output, argparse.Namespace(claims=None))


def test_the_table_then_the_files_then_the_next_steps(tmp_path, capsys):
    assert show_end(tmp_path) == 0
    shown = capsys.readouterr().out
    order = ["50.0", "merged results  ", "report          ", "replicate status"]
    assert sorted(order, key=shown.index) == order


@pytest.mark.parametrize("error", [StorageError("cannot write it"), OSError(5, "broken disk")])
def test_without_a_report_the_table_and_the_next_steps_are_shown(
    tmp_path, capsys, monkeypatch, error
):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(gather, "write_report", fail)
    assert show_end(tmp_path) == 0
    shown = capsys.readouterr()
    assert "50.0" in shown.out
    assert "replicate status" in shown.out
    assert "report          " not in shown.out
    (line,) = shown.err.splitlines()
    assert f"replicate report {tmp_path}" in line
    assert str(error) in line
