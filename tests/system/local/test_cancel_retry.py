"""`replicate cancel` and `retry`: requests as files, seen by whichever executor has the run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from support.commands import replicate
from support.executors import executor, run_here, wait_until
from support.sweeps import LEAVE_RESULT, make_sweep, shell, write_sweep

from merge.records.records import (
    Cause,
    Outcome,
    RequestAction,
    read_attempt,
    read_claim,
    read_request,
)
from merge.records.result import read_result
from merge.records.sweep import Run
from merge.storage.json_files import write_json
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.local.events import RunOutcome
from orchestrator.machine.guard import marked_processes
from orchestrator.runs.requests import ask
from orchestrator.runs.retries import Policy, Rule
from orchestrator.runs.states import State, derive_state, read_facts

pytestmark = pytest.mark.system

RESUMING = shell(
    f"""
    checkpoint="$PAPERGRID_RUN_DIR/checkpoint"
    if [ -e "$checkpoint" ]; then {LEAVE_RESULT.strip()}; exit; fi
    trap 'touch "$checkpoint"; exit 0' TERM
    echo ready
    while :; do sleep 0.02; done
    """
)
"""Writes a checkpoint when it is asked to stop; finishes where it finds one."""

STUBBORN = shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")


def paths_of(output: Path, run: Run) -> RunPaths:
    return SweepPaths(output).run(run.path)


def state_of(output: Path, run: Run) -> State:
    return derive_state(read_facts(output, run), 0.0).state


def wait_until_ready(output: Path, run: Run) -> None:
    log = paths_of(output, run).attempt(1).stdout
    wait_until(lambda: log.exists() and log.read_text(), "the trap of the command")


@pytest.mark.parametrize("host", ["here", "far"])
def test_a_running_run_is_stopped_after_its_checkpoint_wherever_it_runs(tmp_path, host):
    sweep = make_sweep(commands=[RESUMING, shell(LEAVE_RESULT)])
    run, output = sweep.runs[0], tmp_path / "out"
    with executor(write_sweep(output, sweep), "--host", host, "--heartbeat", "0.2") as running:
        wait_until_ready(output, run)
        done = replicate("cancel", output, "--run", run.run_id, "--json", cwd=tmp_path)
        assert running.wait() == 3, running.told
        assert "ended run-fold1 done" in running.told
        assert "ended run-fold0 cancelled" in running.told
    (told,) = json.loads(done.stdout)["runs"]
    assert (told["run_id"], told["was"], told["is_asked"]) == (run.run_id, "running", True)
    paths = paths_of(output, run)
    assert (paths.root / "checkpoint").exists()
    attempt = read_attempt(paths.attempt(1).record)
    assert (attempt.outcome, attempt.cause) == (Outcome.INTERRUPTED, Cause.CANCELLED)
    assert state_of(output, run) is State.CANCELLED
    assert marked_processes("PAPERGRID_TOKEN", read_claim(paths.claim(1)).token) == []


def test_a_run_that_will_not_stop_is_killed_when_its_grace_is_over(tmp_path):
    sweep = make_sweep(STUBBORN)
    run, output = sweep.runs[0], tmp_path / "out"
    words = ("--heartbeat", "0.2", "--grace", "0.5")
    with executor(write_sweep(output, sweep), *words) as running:
        wait_until_ready(output, run)
        ask(paths_of(output, run), RequestAction.CANCEL, now=0.0)
        assert running.wait() == 3
    assert read_attempt(paths_of(output, run).attempt(1).record).cause is Cause.CANCELLED


def test_no_command_starts_a_cancelled_run_until_it_is_to_be_retried(tmp_path):
    sweep = make_sweep(shell(LEAVE_RESULT), folds=2)
    run = sweep.runs[0]
    write_sweep(tmp_path, sweep)
    assert replicate("cancel", tmp_path, "--folds", "0", cwd=tmp_path).returncode == 0
    report = run_here(sweep, tmp_path)
    assert report.endings[run.run_id].outcome is RunOutcome.CANCELLED
    assert "`replicate retry` takes it back" in report.endings[run.run_id].reason
    assert report.exit_code == 3
    assert not paths_of(tmp_path, run).claim(1).exists()
    assert replicate("retry", tmp_path, "--state", "cancelled", cwd=tmp_path).returncode == 0
    assert state_of(tmp_path, run) is State.PENDING
    assert run_here(sweep, tmp_path).exit_code == 0
    requests = [read_request(paths_of(tmp_path, run).request(n)).action for n in (1, 2)]
    assert requests == [RequestAction.CANCEL, RequestAction.RETRY]


def test_a_run_that_is_cancelled_in_an_executors_queue_is_not_started(tmp_path):
    first = shell('while [ ! -e "$PAPERGRID_RUN_DIR/go" ]; do sleep 0.02; done;' + LEAVE_RESULT)
    sweep = make_sweep(commands=[first, shell(LEAVE_RESULT)])
    output = tmp_path / "out"
    with executor(write_sweep(output, sweep)) as running:
        running.wait_for("started run-fold0")
        ask(paths_of(output, sweep.runs[1]), RequestAction.CANCEL, now=0.0)
        (paths_of(output, sweep.runs[0]).root / "go").touch()
        assert running.wait() == 3
        assert "started run-fold1" not in running.told
    assert paths_of(output, sweep.runs[1]).claim_numbers() == []


def test_a_cancelled_run_goes_on_from_its_checkpoint_when_it_is_retried(tmp_path):
    sweep = make_sweep(RESUMING)
    run, output = sweep.runs[0], tmp_path / "out"
    with executor(write_sweep(output, sweep), "--heartbeat", "0.2") as running:
        wait_until_ready(output, run)
        replicate("cancel", output, cwd=tmp_path)
        running.wait()
    done = replicate("work", output, "--devices", "cpu:1", "--retry-cancelled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_result(paths_of(output, run).result).attempt == 2


def test_a_dry_run_tells_and_writes_nothing(tmp_path):
    sweep = make_sweep(shell(LEAVE_RESULT), folds=2)
    write_sweep(tmp_path, sweep)
    run_here(make_sweep(shell(LEAVE_RESULT), folds=1), tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = replicate("cancel", tmp_path, "--dry-run", cwd=tmp_path)
    assert "would cancel: 1 run" in done.stdout
    assert "it has its result" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_retry_takes_only_the_states_that_are_named(tmp_path):
    fail = shell("exit 1")
    sweep = make_sweep(commands=[fail, shell(LEAVE_RESULT), fail])
    write_sweep(tmp_path, sweep)
    run_here(sweep, tmp_path)
    ask(paths_of(tmp_path, sweep.runs[2]), RequestAction.CANCEL, now=0.0)
    done = replicate("retry", tmp_path, "--state", "failed", "--json", cwd=tmp_path)
    assert [entry["run_id"] for entry in json.loads(done.stdout)["runs"]] == ["run-fold0"]
    assert state_of(tmp_path, sweep.runs[2]) is State.CANCELLED


def test_a_retry_counts_attempts_anew(tmp_path):
    sweep = make_sweep(shell("kill -KILL $$"))
    policy = Policy(rules={Cause.KILLED: Rule(limit=1)})
    write_sweep(tmp_path, sweep)
    run_here(sweep, tmp_path, retries=policy)
    assert paths_of(tmp_path, sweep.runs[0]).claim_numbers() == [1, 2]
    replicate("retry", tmp_path, cwd=tmp_path)
    run_here(sweep, tmp_path, retries=policy)
    assert paths_of(tmp_path, sweep.runs[0]).claim_numbers() == [1, 2, 3, 4]


def test_ctrl_c_still_stops_the_others_while_one_is_being_cancelled(tmp_path):
    sweep = make_sweep(RESUMING, folds=2)
    output = tmp_path / "out"
    with executor(write_sweep(output, sweep), "2", "--heartbeat", "0.2") as running:
        for run in sweep.runs:
            wait_until_ready(output, run)
        ask(paths_of(output, sweep.runs[0]), RequestAction.CANCEL, now=0.0)
        running.wait_for("ended run-fold0 cancelled")
        running.send(signal.SIGINT)
        assert running.wait() == 130
    assert state_of(output, sweep.runs[1]) is State.PENDING


def test_a_damaged_request_is_named_and_the_run_is_not_started(tmp_path):
    sweep = make_sweep(shell(LEAVE_RESULT))
    path = paths_of(tmp_path, sweep.runs[0]).request(1)
    write_json(path, {"schema": 1, "wish": "vanish"})
    report = run_here(sweep, tmp_path)
    assert report.endings["run-fold0"].outcome is RunOutcome.REFUSED
    assert str(path) in report.endings["run-fold0"].reason


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--run", "run-fold9"], "no run 'run-fold9', did you mean"),
        (["--run", "run-fold0", "--folds", "0"], "not by both"),
        (["--where", "colour=red"], "unknown axis 'colour'"),
        (["--kill"], "add --workers"),
        (["--workers", "--folds", "0"], "without --run and filters"),
        (["--workers", "gpu1"], "no worker was submitted to 'gpu1'"),
    ],
)
def test_a_run_that_is_not_there_is_told(tmp_path, words, told):
    write_sweep(tmp_path, make_sweep(shell("true")))
    done = replicate("cancel", tmp_path, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr.replace(":", ",")
