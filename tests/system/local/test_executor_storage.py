"""Folders that cannot be written: clear errors, nothing corrupt, nothing lost."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.executors import run_here
from support.sweeps import LEAVE_RESULT, make_sweep, shell, write_sweep

from merge.records.result import read_result
from merge.records.sweep import Run
from merge.storage.json_files import read_json
from merge.storage.paths import SweepPaths
from orchestrator.local.events import RunOutcome, RunsCompleted
from replicate import api

pytestmark = pytest.mark.system

OK = shell(LEAVE_RESULT)


@pytest.fixture
def mounted(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mounts a tmpfs with the given options; skips where mounting is not permitted."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    is_mounted = False

    def mount(options: str) -> Path:
        nonlocal is_mounted
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.strip()}")
        is_mounted = True
        return folder

    yield mount
    if is_mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_folder_is_named_with_the_fix(mounted, tmp_path):
    output = mounted("ro")
    report = run_here(make_sweep(OK), output, cwd=tmp_path)
    (ending,) = report.endings.values()
    assert ending.outcome is RunOutcome.STORAGE
    assert str(output) in ending.reason
    assert "read-only: choose another folder" in ending.reason
    assert report.exit_code == 75


def test_a_file_where_the_output_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("precious")
    report = run_here(make_sweep(OK), tmp_path / "file", cwd=tmp_path)
    (ending,) = report.endings.values()
    assert str(tmp_path / "file") in ending.reason
    assert report.exit_code != 0
    assert (tmp_path / "file").read_text() == "precious"


def test_a_full_disk_fails_runs_with_the_fix_and_corrupts_nothing(mounted, tmp_path):
    output = mounted("size=256k")
    sweep = make_sweep(OK, folds=40)
    report = run_here(sweep, output, cwd=tmp_path)
    full = report.having(RunOutcome.STORAGE)
    done = report.having(RunOutcome.DONE)
    assert done
    assert full
    assert report.exit_code == 75
    assert any("the disk is full: free some space" in ending.reason for ending in full)
    for path in output.rglob("*.json"):
        assert read_json(path)
    for ending in done:
        assert read_result(output / ending.run.path / "result.json").config_hash
    assert not [path for path in output.rglob("*") if path.name.endswith(".tmp")]


def test_after_space_is_made_the_same_command_finishes(mounted, tmp_path):
    output = mounted("size=256k")
    ballast = output / "ballast"
    sweep = make_sweep(OK, folds=4)
    with ballast.open("wb") as file:
        file.write(b"x" * (220 << 10))
    assert run_here(sweep, output, cwd=tmp_path).exit_code == 75
    ballast.unlink()
    assert run_here(sweep, output, cwd=tmp_path).exit_code == 0
    assert [read_result(output / run.path / "result.json").metrics for run in sweep.runs] == [
        {"score": fold} for fold in range(4)
    ]


def test_a_merge_that_hangs_elsewhere_keeps_no_run_from_starting_nor_from_being_sent(tmp_path):
    output = tmp_path / "out"
    sweep = make_sweep(shell(LEAVE_RESULT), folds=2)
    write_sweep(output, sweep)
    planned = api.frozen_plan(output)
    settings = api.local_settings(planned, devices="cpu:1", cache_dir=tmp_path / "cache")
    completed: list[Run] = []
    notices: list[object] = []

    def complete(event: object) -> None:
        if isinstance(event, RunsCompleted):
            completed.extend(event.runs)

    with SweepPaths(output).merge_lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        report = api.work(planned, output, settings, listeners=[notices.append, complete])
    assert report.exit_code == 0
    assert sum("has been locked" in str(notice) for notice in notices) == 1
    assert completed == list(sweep.runs)
    assert api.merge(output).document["results"]["run"]["n"] == 2
