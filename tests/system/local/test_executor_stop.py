"""Requests to stop: checkpoints are waited for, a second request kills, nothing is left."""

from __future__ import annotations

import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.executors import executor, run_here, wait_until
from support.sweeps import LEAVE_RESULT, make_sweep, shell, write_sweep

from merge.records.records import Outcome, read_attempt, read_claim
from merge.records.result import read_result
from merge.records.sweep import Run
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.machine.guard import marked_processes
from orchestrator.runs.states import State, derive_state, read_facts

pytestmark = pytest.mark.system

RESUMING = shell(
    f"""
    checkpoint="$PAPERGRID_RUN_DIR/checkpoint"
    if [ -e "$checkpoint" ]; then {LEAVE_RESULT.strip()}; exit; fi
    trap 'sleep 0.3; touch "$checkpoint"; exit 0' TERM
    echo ready
    while :; do sleep 0.02; done
    """
)
"""Writes a checkpoint when it is asked to stop; finishes where it finds one."""

WAIT_FOR_GO = 'while [ ! -e "$PAPERGRID_RUN_DIR/go" ]; do sleep 0.02; done;'

STUBBORN = shell("trap '' TERM INT HUP; echo ready; while :; do sleep 0.05; done")


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


def paths_of(output: Path, run: Run) -> RunPaths:
    return SweepPaths(output).run(run.path)


def wait_until_ready(output: Path, run: Run) -> None:
    log = paths_of(output, run).attempt(1).stdout
    wait_until(lambda: log.exists() and log.read_text(), "the trap of the command")


def left_by(output: Path, run: Run) -> list[int]:
    return marked_processes("PAPERGRID_TOKEN", read_claim(paths_of(output, run).claim(1)).token)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_request_lets_checkpoints_be_written_and_the_same_command_goes_on(output, number):
    sweep = make_sweep(RESUMING, folds=3)
    with executor(write_sweep(output, sweep), "2") as stopped:
        for run in sweep.runs[:2]:
            wait_until_ready(output, run)
        stopped.send(number)
        assert stopped.wait() == 130
        assert "ended run-fold2 not started" in stopped.told
    for run in sweep.runs[:2]:
        paths = paths_of(output, run)
        assert (paths.root / "checkpoint").exists()
        assert read_attempt(paths.attempt(1).record).outcome is Outcome.INTERRUPTED
        assert read_claim(paths.claim(1)).released
        assert derive_state(read_facts(output, run), 0.0).state is State.PENDING
        assert left_by(output, run) == []
    assert paths_of(output, sweep.runs[2]).claim_numbers() == []
    with executor(output, "3") as again:
        again.wait_for("ended run-fold1 done")
        again.wait_for("started run-fold2")
        again.send(number)
        assert again.wait() == 130
    assert read_result(paths_of(output, sweep.runs[0]).result).attempt == 2


def test_a_command_that_will_not_stop_is_killed_when_its_grace_is_over(output):
    sweep = make_sweep(STUBBORN)
    with executor(write_sweep(output, sweep), "--grace", "0.5") as stopped:
        wait_until_ready(output, sweep.runs[0])
        began = time.monotonic()
        stopped.send(signal.SIGINT)
        # By itself it would never end.
        assert stopped.wait() == 130
        assert 0.5 <= time.monotonic() - began < 5
    attempt = read_attempt(paths_of(output, sweep.runs[0]).attempt(1).record)
    assert attempt.outcome is Outcome.INTERRUPTED
    assert "SIGKILL" in attempt.reason
    assert left_by(output, sweep.runs[0]) == []


def test_a_second_request_kills_all_at_once(output):
    sweep = make_sweep(STUBBORN, folds=2)
    with executor(write_sweep(output, sweep), "2", "--grace", "600") as stopped:
        for run in sweep.runs:
            wait_until_ready(output, run)
        stopped.send(signal.SIGINT)
        stopped.wait_for("stopping: 2 runs")
        stopped.send(signal.SIGINT)
        assert stopped.wait() == 130
    for run in sweep.runs:
        assert left_by(output, run) == []
        assert read_claim(paths_of(output, run).claim(1)).released


def test_a_run_that_finishes_while_it_is_asked_to_stop_counts(output):
    command = shell("trap '' TERM; echo ready;" + WAIT_FOR_GO + LEAVE_RESULT)
    sweep = make_sweep(command)
    with executor(write_sweep(output, sweep)) as stopped:
        wait_until_ready(output, sweep.runs[0])
        stopped.send(signal.SIGINT)
        stopped.wait_for("stopping: 1 runs")
        (paths_of(output, sweep.runs[0]).root / "go").touch()
        assert stopped.wait() == 0
    assert read_result(paths_of(output, sweep.runs[0]).result).metrics == {"score": 0}


def test_a_trainer_that_was_stopped_by_somebody_else_is_not_called_failed(output):
    command = shell(
        """echo '{"time": 1, "event": "stopped"}' > "$PAPERGRID_ATTEMPT_DIR/events.jsonl" """
    )
    sweep = make_sweep(command)
    report = run_here(sweep, output)
    assert report.exit_code == 3
    assert derive_state(read_facts(output, sweep.runs[0]), 0.0).state is State.PENDING


def test_hang_ups_that_were_to_be_ignored_are_ignored(output):
    sweep = make_sweep(shell(WAIT_FOR_GO + LEAVE_RESULT))
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with executor(write_sweep(output, sweep)) as nohup:
            nohup.wait_for("started run-fold0")
            nohup.send(signal.SIGHUP)
            (paths_of(output, sweep.runs[0]).root / "go").touch()
            assert nohup.wait() == 0
    finally:
        signal.signal(signal.SIGHUP, handler)


def test_the_signals_are_given_back_to_the_caller(output):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    run_here(make_sweep(shell(LEAVE_RESULT)), output)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


RANK = """
import os, signal, sys, time
folder = os.environ["PAPERGRID_ATTEMPT_DIR"]
rank = os.environ["RANK"] + " of " + os.environ["WORLD_SIZE"]
def stop(*_):
    time.sleep(0.2)
    open(os.path.join(folder, "stopped " + rank), "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", rank, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not find_spec("torch"), reason="torch is not installed: no torchrun")
def test_the_ranks_of_a_real_torchrun_stop_by_themselves(output):
    """The agent would kill its workers on SIGTERM; asked themselves, they end in peace."""
    sweep = make_sweep((sys.executable, "-S", "-c", RANK), devices_per_run=2)
    run = sweep.runs[0]
    log = paths_of(output, run).attempt(1).stdout
    with executor(write_sweep(output, sweep), "2") as stopped:
        deadline = time.monotonic() + 60
        while not log.exists() or log.read_text().count("ready") < 2:
            assert time.monotonic() < deadline, stopped.told
            time.sleep(0.05)
        stopped.send(signal.SIGINT)
        assert stopped.wait() == 130
    attempt = read_attempt(paths_of(output, run).attempt(1).record)
    assert (attempt.outcome, attempt.exit_code) == (Outcome.INTERRUPTED, 0)
    told = {path.name for path in log.parent.iterdir() if path.name.startswith("stopped")}
    assert told == {"stopped 0 of 2", "stopped 1 of 2"}
    assert left_by(output, run) == []
