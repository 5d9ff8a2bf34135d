"""Senders that die, and wishes that do not fit together, on a real SLURM cluster."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from support.commands import MarkedCommand, replicate
from support.slurm_cluster import SlurmCluster, wait_for
from support.slurm_sweeps import STEADY, SentSweep, submit

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

WORDS = ("submit", "--slurm", "--study", "study.yaml", "--output-dir", 'o ut"')
WORDS_OF_RUNS = ("--folds", 0, 1, "--max-parallel", 1, "--set", "pace=0.5")


@pytest.fixture
def orphaned(slurm: SlurmCluster, tmp_path: Path) -> SentSweep:
    """An array whose sender was killed when SLURM had accepted it, before it learned of that."""
    (tmp_path / "study.yaml").write_text(STEADY)
    hanging = tmp_path / "bin" / "sbatch"
    hanging.parent.mkdir()
    accepted = tmp_path / "accepted"
    hanging.write_text(
        f"#!/bin/sh\n'{shutil.which('sbatch')}' --parsable \"$@\" > '{accepted}.new' && "
        f"mv '{accepted}.new' '{accepted}'\nexec sleep 600\n"
    )
    hanging.chmod(0o755)
    path = {"PATH": f"{hanging.parent}:{os.environ['PATH']}"}
    command = MarkedCommand((*WORDS, *WORDS_OF_RUNS), tmp_path, {**slurm.environment, **path})
    sender = command.start(tmp_path / "sender.log")
    wait_for(accepted.exists, (tmp_path / "sender.log").read_text)
    os.killpg(sender.pid, signal.SIGKILL)
    sender.wait()
    return SentSweep(slurm, tmp_path / 'o ut"', (accepted.read_text().strip(),))


def test_an_array_whose_sender_died_is_told_not_sent_twice_and_cancelled(orphaned, tmp_path):
    slurm = orphaned.cluster
    first, second = orphaned.task(0), orphaned.task(1)
    orphaned.wait_step(0)
    assert f"queued in SLURM as {second} (" in orphaned.status()["steady-fold1"]["reason"]
    again = replicate(*WORDS, *WORDS_OF_RUNS, cwd=tmp_path, env=slurm.environment)
    assert again.returncode == 0, again.stderr
    assert f"2 runs are queued already: {first}, {second}" in again.stderr
    assert "nothing to submit" in again.stderr
    told = replicate("cancel", orphaned.output, cwd=tmp_path, env=slurm.environment)
    assert told.returncode == 0, told.stderr
    assert f"SLURM task {first}: cancelled" in told.stdout
    assert f"SLURM task {second}: cancelled" in told.stdout
    slurm.wait_state(first, "CANCELLED")
    slurm.wait_state(second, "CANCELLED")


def test_what_a_person_cancelled_is_shown_so_and_sent_only_on_demand(slurm, tmp_path):
    words = ("--folds", 0, 1, "--set", "pace=0.5", "--no-merge")
    sent = submit(slurm, tmp_path, *words)
    sent.wait_step(0)
    replicate("cancel", "out", "--run", "steady-fold0", cwd=tmp_path, env=slurm.environment)
    slurm.wait_state(sent.task(0), "CANCELLED")
    told = sent.status()["steady-fold0"]
    assert told["state"] == "cancelled"
    assert "`replicate retry` takes it back" in told["reason"]
    assert sent.attempt(0)["cause"] == "cancelled"
    line = ("submit", "--slurm", "--study", "study.yaml", "--output-dir", "out", *words)
    again = replicate(*line, cwd=tmp_path, env=slurm.environment)
    assert "1 runs are cancelled: --retry-cancelled sends them too" in again.stderr
    assert "nothing to submit" in again.stderr
    submit(slurm, tmp_path, *words, "--retry-cancelled").wait_result(0)
