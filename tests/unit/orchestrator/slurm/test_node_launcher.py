"""What stands beside torchrun on each node of a run that is spread over several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.simulated_disk import SimulatedClock, World
from support.slurm_cluster import wait_for

from merge.records.records import EXPIRY_S, Claim
from merge.storage.paths import RunPaths
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claims import Taken, beat, release, take
from orchestrator.slurm import node_launcher
from orchestrator.slurm.node_launcher import Ownership

RANK = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def stop(number, frame):
    (folder / "told").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
(folder / "started").touch()
while True:
    time.sleep(0.02)
"""
AGENT = 'LOCAL_RANK=0 "$0" -c "$1" "$2"; exit $?'
"""Starts its rank as a child, as torchrun does."""


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths(tmp_path / "run")


@pytest.fixture
def claim(paths: RunPaths) -> Claim:
    taking = take(paths, "0123456789abcdef", this_owner(), now=time.time())
    assert isinstance(taking, Taken)
    return taking.claim


@pytest.fixture
def node(paths: RunPaths, claim: Claim, tmp_path: Path):
    """The launcher, whose one rank is at work; it and its rank are gone in the end."""
    environment = {
        **os.environ,
        "PAPERGRID_RUN_DIR": str(paths.root),
        "PAPERGRID_ATTEMPT": str(claim.number),
        "PAPERGRID_TOKEN": claim.token,
    }
    agent = ("sh", "-c", AGENT, sys.executable, RANK, str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.slurm.node_launcher", *agent],
        env=environment,
        start_new_session=True,
    )
    wait_for((tmp_path / "started").exists, "the rank")
    yield process
    process.kill()
    process.wait()
    assert node_launcher._ranks(claim.token) == []


def ask_to_stop(paths: RunPaths, claim: Claim) -> None:
    stop = paths.attempt(claim.number).stop
    stop.parent.mkdir(parents=True, exist_ok=True)
    stop.touch()


def test_ranks_are_asked_to_stop_by_a_file_and_their_exit_code_is_the_node_s(
    node, paths, claim, tmp_path
):
    ask_to_stop(paths, claim)
    assert node.wait(20) == 0
    assert (tmp_path / "told").exists()


def test_a_scheduler_s_signal_to_every_process_of_the_step_ends_neither_torchrun_nor_ranks(
    node, paths, claim, tmp_path
):
    os.killpg(node.pid, signal.SIGUSR2)
    time.sleep(0.5)
    assert node.poll() is None
    ask_to_stop(paths, claim)
    assert node.wait(20) == 0
    assert (tmp_path / "told").exists()


def test_ranks_whose_run_has_lost_its_owner_are_killed(node, paths, claim, tmp_path):
    release(paths, claim)
    assert node.wait(30) == 1
    assert not (tmp_path / "told").exists()
    wait_for(lambda: node_launcher._ranks(claim.token) == [], "the rank's end", 5)


def test_an_owner_is_lost_when_another_has_the_run_or_it_is_silent_for_long(paths, claim):
    clock = SimulatedClock(world := World())
    owner = Ownership(paths, claim.token, clock)
    for _ in range(4):
        claim = beat(paths, claim, now=claim.heartbeat + 1)
        world.time += 1.9 * EXPIRY_S
        assert not owner.is_lost()
    assert Ownership(paths, "another").is_lost()
    world.time += 1.9 * EXPIRY_S
    assert not owner.is_lost()
    world.time += 0.2 * EXPIRY_S
    assert owner.is_lost()


def test_a_claim_that_cannot_be_read_is_no_proof(paths, claim):
    owner = Ownership(paths, claim.token)
    paths.claim(claim.number).write_text("{")
    assert not owner.is_lost()
    paths.claim(claim.number).unlink()
    assert not owner.is_lost()
