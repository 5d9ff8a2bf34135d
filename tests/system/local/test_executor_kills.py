"""What is lost when a process dies: nothing but its own work, and no process is left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from support.executors import Executor, executor, run_here, wait_until
from support.sweeps import LEAVE_RESULT, make_sweep, shell, write_sweep

from merge.records.records import Outcome, read_attempt, read_claim
from merge.records.result import read_result
from merge.records.sweep import Run, Sweep
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.local.events import RunOutcome
from orchestrator.machine.guard import marked_processes
from orchestrator.runs.states import State, derive_state, read_facts

pytestmark = pytest.mark.system

SLOW_ONCE = shell(
    '[ "$PAPERGRID_ATTEMPT" -gt 1 ] || { setsid sleep 600 & sleep 600; };' + LEAVE_RESULT
)
"""Hangs in its first attempt, with a child in a session of its own; ends at once in its second."""


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


def paths_of(output: Path, run: Run) -> RunPaths:
    return SweepPaths(output).run(run.path)


def processes_of(output: Path, run: Run, number: int = 1) -> list[int]:
    token = read_claim(paths_of(output, run).claim(number)).token
    return marked_processes("PAPERGRID_TOKEN", token)


def start(output: Path, sweep: Sweep, running: Executor, num_processes: int) -> None:
    """Wait until the first run of `sweep` has all its processes."""
    run = sweep.runs[0]
    running.wait_for(f"started {run.run_id}")
    wait_until(lambda: len(processes_of(output, run)) == num_processes, "its processes")


def test_children_die_with_a_killed_executor_and_the_next_takes_the_run_over(output):
    sweep = make_sweep(SLOW_ONCE)
    run = sweep.runs[0]
    with executor(write_sweep(output, sweep)) as first:
        start(output, sweep, first, 3)
        first.send(signal.SIGKILL)
        first.wait()
        wait_until(lambda: not processes_of(output, run), "the death of its children")
    state = derive_state(read_facts(output, run), time.time())
    assert (state.state, state.reason[:5]) == (State.FAILED, "lost:")
    before = paths_of(output, run).attempt(1).record.read_bytes()
    report = run_here(sweep, output)
    assert report.exit_code == 0
    assert read_result(paths_of(output, run).result).attempt == 2
    assert paths_of(output, run).attempt(1).record.read_bytes() == before


def test_the_next_executor_kills_what_a_dead_one_left_where_the_guard_died_too(output):
    sweep = make_sweep(SLOW_ONCE)
    run = sweep.runs[0]
    with executor(write_sweep(output, sweep)) as first:
        start(output, sweep, first, 3)
        guards = guards_of(first)
        # Stopped, the executor cannot replace its guard before it dies itself.
        first.send(signal.SIGSTOP)
        for guard in guards:
            os.kill(guard, signal.SIGKILL)
        first.send(signal.SIGKILL)
        first.wait()
    assert len(processes_of(output, run)) == 3
    orphans = processes_of(output, run)
    assert run_here(sweep, output).exit_code == 0
    assert not set(orphans) & set(processes_of(output, run))


def test_a_killed_guard_is_replaced_by_one_that_guards(output):
    sweep = make_sweep(SLOW_ONCE)
    run = sweep.runs[0]
    with executor(write_sweep(output, sweep)) as first:
        start(output, sweep, first, 3)
        (old,) = guards_of(first)
        os.kill(old, signal.SIGKILL)
        first.wait_for("a new one was started")
        wait_until(lambda: guards_of(first) not in ([], [old]), "a new guard")
        first.send(signal.SIGKILL)
        first.wait()
        wait_until(lambda: not processes_of(output, run), "the death of its children")


def test_the_ranks_die_with_a_killed_agent(output):
    agent = (
        "import os, subprocess, sys, time;"
        "[subprocess.Popen(['sleep', '600'], env={**os.environ, 'LOCAL_RANK': str(n)},"
        " start_new_session=True) for n in range(2)];"
        "time.sleep(600)"
    )
    sweep = make_sweep((sys.executable, "-c", agent))
    run = sweep.runs[0]
    with executor(write_sweep(output, sweep)) as first:
        start(output, sweep, first, 3)
        os.kill(read_agent(first), signal.SIGKILL)
        assert first.wait() == 1
        assert processes_of(output, run) == []
    attempt = read_attempt(paths_of(output, run).attempt(1).record)
    assert attempt.outcome is Outcome.FAILED
    assert "killed by SIGKILL" in attempt.reason


def test_two_executors_on_one_folder_make_one_attempt_and_one_result_a_run(output):
    command = shell("sleep 0.05;" + LEAVE_RESULT)
    sweep = make_sweep(command, folds=12)
    write_sweep(output, sweep)
    with executor(output, "2") as one, executor(output, "2") as two:
        codes = {one.wait(), two.wait()}
        told = one.told + two.told
    assert codes <= {0, 3}
    assert 0 in codes
    for fold, run in enumerate(sweep.runs):
        paths = paths_of(output, run)
        assert read_result(paths.result).metrics == {"score": fold}
        assert paths.results_aside() == []
        assert len(list((paths.root / "attempts").iterdir())) == 1
        assert told.count(f"started {run.run_id} ") == 1


def test_a_run_that_stays_busy_elsewhere_is_told_and_leaves_the_sweep_incomplete(output):
    sweep = make_sweep(commands=[SLOW_ONCE, shell(LEAVE_RESULT)])
    with executor(write_sweep(output, sweep)) as first:
        start(output, sweep, first, 3)
        report = run_here(sweep, output)
        assert report.endings["run-fold0"].outcome is RunOutcome.ELSEWHERE
        assert f"process {first.process.pid}" in report.endings["run-fold0"].reason
        assert report.endings["run-fold1"].outcome is RunOutcome.DONE
        assert report.exit_code == 3


def test_a_late_owner_cannot_commit_and_its_result_is_kept_aside(output):
    """An executor on another host freezes past its claim's expiry; its trainer goes on and ends."""
    until_told = 'while [ ! -e "$PAPERGRID_RUN_DIR/go" ]; do sleep 0.02; done;'
    command = shell(
        f'[ "$PAPERGRID_ATTEMPT" -gt 1 ] || {{ {until_told} set -- 99; }};' + LEAVE_RESULT
    )
    sweep = make_sweep(command)
    run = sweep.runs[0]
    paths = paths_of(output, run)
    frozen = ("--host", "far", "--heartbeat", "60", "--expiry", "0.2")
    with executor(write_sweep(output, sweep), *frozen) as late:
        late.wait_for("started run-fold0")
        late.send(signal.SIGSTOP)
        time.sleep(0.3)
        assert run_here(sweep, output).exit_code == 0
        (paths.root / "go").touch()
        wait_until(paths.attempt(1).result.exists, "the late result")
        late.send(signal.SIGCONT)
        assert late.wait() == 0
        assert "another executor took the run over" in late.told
    assert read_result(paths.result).metrics == {"score": 0}
    assert read_result(paths.result).attempt == 2
    (aside,) = paths.results_aside()
    assert read_result(aside).metrics == {"score": 99}
    assert read_attempt(paths.attempt(1).record).outcome is Outcome.LOST


def test_an_owner_that_learns_of_its_lost_claim_kills_its_attempt(output):
    hang = shell('[ "$PAPERGRID_ATTEMPT" -gt 1 ] || sleep 600;' + LEAVE_RESULT)
    sweep = make_sweep(hang)
    run = sweep.runs[0]
    frozen = ("--host", "far", "--heartbeat", "0.3", "--expiry", "0.2")
    with executor(write_sweep(output, sweep), *frozen) as late:
        late.wait_for("started run-fold0")
        late.send(signal.SIGSTOP)
        time.sleep(0.3)
        assert run_here(sweep, output).exit_code == 0
        late.send(signal.SIGCONT)
        assert late.wait() == 0
        assert processes_of(output, run) == []
    assert read_attempt(paths_of(output, run).attempt(1).record).outcome is Outcome.LOST


def test_heartbeats_keep_a_run_from_executors_on_other_hosts(output):
    sweep = make_sweep(SLOW_ONCE)
    # Without heartbeats it would expire; with them only if its thread were silent for 5 s.
    beating = ("--host", "far", "--heartbeat", "0.1", "--expiry", "5")
    with executor(write_sweep(output, sweep), *beating) as first:
        start(output, sweep, first, 3)
        time.sleep(5.2)
        report = run_here(sweep, output)
        assert report.exit_code == 3
        assert "on far" in report.endings["run-fold0"].reason


def guards_of(running: Executor) -> list[int]:
    return [pid for pid in running.children() if b"guard.py" in command_line(pid)]


def read_agent(running: Executor) -> int:
    (agent,) = (pid for pid in running.children() if b"guard.py" not in command_line(pid))
    return agent


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
