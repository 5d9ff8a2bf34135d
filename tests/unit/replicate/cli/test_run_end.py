"""What `replicate run` prints once all is trained."""

from __future__ import annotations

import argparse

import pytest
from support.grids import make_grid, write_result, write_sweep

from merge.errors import StorageError
from orchestrator.local.events import LocalReport, RunEnded, RunOutcome
from orchestrator.preflight import Problem
from replicate.cli import preflight
from replicate.cli.main import main
from replicate.cli.verbs import run as run_verb
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


@pytest.mark.parametrize(
    ("about", "words", "downloads"),
    [
        ("packages", [], False),
        ("pascal5i", [], True),
        ("packages", ["--no-check"], True),
    ],
)
def test_nothing_is_downloaded_where_no_run_can_be_trained(
    tmp_path, monkeypatch, capsys, about, words, downloads
):
    started: list[object] = []

    def prepare(*given: object) -> int:
        started.append(given)
        return 75

    monkeypatch.setattr(run_verb, "_prepare", prepare)
    monkeypatch.setattr(preflight, "find_problems", lambda *_: [Problem(about, "lacks it", "get")])
    output = ["--output-dir", str(tmp_path / "out"), "--devices", "cpu"]
    code = main(["run", "--study", "demo", "--download", *output, *words])
    assert (code, bool(started)) == ((75, True) if downloads else (2, False))
    assert ("packages: lacks it" in capsys.readouterr().err) is not downloads


def test_a_thread_that_cannot_be_had_is_no_traceback(tmp_path, monkeypatch, capsys):
    def refused(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(run_verb, "execute", refused)
    assert main(["run", "--study", "demo", "--output-dir", str(tmp_path)]) == 75
    assert "can't start new thread: a limit of processes is reached" in capsys.readouterr().err
