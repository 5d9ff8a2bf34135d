"""The examples of the run contract, run as they are written."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from support.executors import executor, run_here, wait_until
from support.sweeps import write_sweep

from merge.records.records import read_attempt
from merge.records.result import read_result
from merge.records.sweep import Run, Sweep
from merge.storage.paths import SweepPaths
from orchestrator.plan.code_version import code_version
from orchestrator.plan.freeze import make_sweep
from orchestrator.studies.load import load_study

pytestmark = pytest.mark.system


def plan(study: Path) -> Sweep:
    loaded = load_study(study)
    return make_sweep(loaded, code_version(loaded))


def losses(output: Path, sweep: Sweep) -> dict[str, float]:
    return {run.run_id: loss_of(output, run) for run in sweep.runs}


def loss_of(output: Path, run: Run) -> float:
    return read_result(SweepPaths(output).run(run.path).result).metrics["loss"]


@pytest.fixture
def bash_example(repository, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "bash"
    shutil.copytree(repository / "examples" / "bash", folder)
    monkeypatch.chdir(folder)
    return folder


def test_the_bash_example_sweeps_a_script_without_python(bash_example, tmp_path):
    sweep = plan(bash_example / "study.yaml")
    assert run_here(sweep, tmp_path / "out", slots=2).exit_code == 0
    found = losses(tmp_path / "out", sweep)
    assert len(found) == 9
    assert found["rate20-seed0"] < found["rate5-seed0"] < found["rate1-seed0"]


def test_the_bash_example_resumes_where_it_was_stopped(bash_example, tmp_path, monkeypatch):
    sweep = plan(bash_example / "study.yaml")
    run_here(sweep, tmp_path / "undisturbed", slots=2)
    stopped_in = tmp_path / "stopped"
    monkeypatch.setenv("STEP_SECONDS", "0.05")
    first = SweepPaths(stopped_in).run(sweep.runs[0].path)
    with executor(write_sweep(stopped_in, sweep)) as stopped:
        events = first.attempt(1).events
        wait_until(lambda: events.exists() and len(events.read_bytes().splitlines()) > 3, "steps")
        stopped.send(signal.SIGINT)
        assert stopped.wait() == 130
    step = int((first.root / "checkpoint").read_text().split()[0])
    assert 3 < step < 40
    monkeypatch.setenv("STEP_SECONDS", "0")
    assert run_here(sweep, stopped_in, slots=2).exit_code == 0
    assert losses(stopped_in, sweep) == losses(tmp_path / "undisturbed", sweep)
    assert read_attempt(first.attempt(2).record).number == 2
    assert len(first.attempt(2).events.read_text().splitlines()) == 40 - step


def test_the_example_on_the_contracts_page_runs_as_written(repository, tmp_path, monkeypatch):
    page = (repository / "docs" / "run-contract.md").read_text()
    for name, kind in (("study.yaml", "yaml"), ("train.sh", "bash")):
        (block,) = re.findall(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        (tmp_path / name).write_text(block)
    monkeypatch.chdir(tmp_path)
    sweep = plan(tmp_path / "study.yaml")
    assert run_here(sweep, tmp_path / "out", slots=2).exit_code == 0
    found = losses(tmp_path / "out", sweep)
    assert len(found) == 4
    assert found["rate=0.1-seed=0"] == pytest.approx(0.9**20, rel=1e-4)


def test_the_contracts_page_names_every_variable_a_process_is_given(repository, tmp_path):
    from support.sweeps import make_sweep as sweep_of
    from support.sweeps import shell

    page = (repository / "docs" / "run-contract.md").read_text()
    sweep = sweep_of(shell("env > $PAPERGRID_RUN_DIR/env; exit 1"))
    run_here(sweep, tmp_path, data_root=tmp_path, weights=tmp_path)
    given = (tmp_path / sweep.runs[0].path / "env").read_text()
    names = set(re.findall(r"^(PAPERGRID_\w+|RANK|LOCAL_RANK|WORLD_SIZE|MASTER_\w+)=", given, re.M))
    assert len(names) >= 15
    for name in names - {"PAPERGRID_CONFIG_FOLD"} - set(os.environ):
        assert f"`{name}`" in page
