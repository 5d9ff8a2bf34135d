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
    assert f"SLURM task {first}: running; it stops after a checkpoint" in told.stdout
    assert f"SLURM task {second}: cancelled" in told.stdout
    wait_for(lambda: len(orphaned.diary()) == 2, orphaned.diary)
    assert orphaned.diary()[1].startswith("stop ")


def test_a_cancelled_run_gets_its_checkpoint_though_slurm_would_kill_it_earlier(slurm, tmp_path):
    """A checkpoint comes up to 7 s after the request; after scancel SLURM's KillWait is 6 s."""
    words = ("--set", "pace=7", "--set", "steps=3", "--claim-expiry", 6, "--no-merge")
    sent = submit(slurm, tmp_path, "--folds", 0, *words)
    sent.wait_step(0)
    told = replicate("cancel", "out", cwd=tmp_path, env=slurm.environment)
    assert "running; it stops after a checkpoint, within " in told.stdout, told.stderr
    wait_for(lambda: sent.status()["steady-fold0"]["state"] == "cancelled", sent.log)
    assert sent.diary()[1] == "stop 2 by SIGTERM"
    assert sent.attempt(0)["cause"] == "cancelled"
    reason = sent.status()["steady-fold0"]["reason"]
    assert "`replicate retry` takes it back, and so does the command" in reason
    line = ("submit", "--slurm", "--study", "study.yaml", "--output-dir", "out", "--folds", 0)
    again = replicate(*line, *words, cwd=tmp_path, env=slurm.environment)
    assert "1 runs are cancelled: --retry-cancelled sends them too" in again.stderr
    assert "nothing to submit" in again.stderr
    submit(slurm, tmp_path, "--folds", 0, *words, "--retry-cancelled").wait_result(0)
    assert sent.diary()[2].startswith("start 2 "), "no step was lost"
