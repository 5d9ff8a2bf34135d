"""Executors that stand by: they wait for the living, take over from the dead, and then end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.executors import Executor, executor, run_here, wait_until
from support.sweeps import LEAVE_RESULT, make_sweep, shell, write_sweep

from merge.records.records import AttemptRecord, Cause, Outcome, read_attempt, read_claim
from merge.records.result import read_result
from merge.records.sweep import Run, Sweep
from merge.storage.json_files import write_json
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.local.events import RunOutcome
from orchestrator.machine.guard import marked_processes
from orchestrator.machine.owners import this_owner
from orchestrator.runs.claim_places import FolderClaims
from orchestrator.runs.claims import Taken, release, take
from orchestrator.runs.retries import Policy, Rule

pytestmark = pytest.mark.system

WAIT_FOR_GO = 'while [ ! -e "$PAPERGRID_RUN_DIR/go" ]; do sleep 0.02; done;'
HANG_ONCE = shell('[ "$PAPERGRID_ATTEMPT" -gt 1 ] || sleep 600;' + LEAVE_RESULT)
FAR = ("--host", "far", "--expiry", "60", "--heartbeat", "0.3")
"""An owner elsewhere; while it lives, no machine is slow enough to have it taken for dead."""
SOON_DEAD = ("--host", "far", "--expiry", "2", "--heartbeat", "0.3")


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out"


def paths_of(output: Path, run: Run) -> RunPaths:
    return SweepPaths(output).run(run.path)


def start_far(running: Executor, sweep: Sweep) -> Run:
    run = sweep.runs[0]
    running.wait_for(f"started {run.run_id}")
    return run


def test_it_waits_until_the_runs_of_others_are_done(output):
    sweep = make_sweep(shell(WAIT_FOR_GO + LEAVE_RESULT))
    near = ("--stand-by", "--heartbeat", "0.1")
    with executor(write_sweep(output, sweep), *FAR) as first:
        run = start_far(first, sweep)
        with executor(output, *near) as second:
            wait_until(lambda: len(second.children()) == 1, "its guard")
            assert second.process.poll() is None
            (paths_of(output, run).root / "go").touch()
            assert second.wait() == 0
            assert f"ended {run.run_id} already done" in second.told
            assert "started" not in second.told
        assert first.wait() == 0


@pytest.mark.parametrize("host", ["this", "another"])
def test_it_takes_over_the_run_of_an_owner_that_is_killed(output, host):
    sweep = make_sweep(HANG_ONCE)
    words = SOON_DEAD if host == "another" else ()
    with executor(write_sweep(output, sweep), *words) as first:
        run = start_far(first, sweep)
        with executor(output, "--stand-by", "--heartbeat", "0.1") as second:
            wait_until(lambda: len(second.children()) == 1, "its guard")
            first.send(signal.SIGKILL)
            assert second.wait() == 0
    paths = paths_of(output, run)
    result = read_result(paths.result)
    lost, done = (read_attempt(paths.attempt(number).record) for number in (1, 2))
    assert (result.attempt, result.token) == (2, done.token)
    assert done.token != lost.token
    assert marked_processes("PAPERGRID_TOKEN", lost.token) == []


def test_it_goes_on_with_a_run_that_its_owner_was_asked_to_stop(output):
    sweep = make_sweep(HANG_ONCE)
    with executor(write_sweep(output, sweep), *FAR) as first:
        run = start_far(first, sweep)
        with executor(output, "--stand-by", "--heartbeat", "0.1") as second:
            wait_until(lambda: len(second.children()) == 1, "its guard")
            first.send(signal.SIGTERM)
            assert second.wait() == 0
        assert first.wait() == 130
    assert read_result(paths_of(output, run).result).attempt == 2


def test_a_run_that_fails_elsewhere_meanwhile_is_not_tried_by_every_host_in_turn(output):
    fails = shell(WAIT_FOR_GO + "echo no mask >&2; exit 3")
    sweep = make_sweep(commands=[fails, shell(LEAVE_RESULT)])
    with executor(write_sweep(output, sweep), *FAR) as first:
        run = start_far(first, sweep)
        with executor(output, "--stand-by", "--heartbeat", "0.1") as second:
            second.wait_for(f"ended {sweep.runs[1].run_id} done")
            (paths_of(output, run).root / "go").touch()
            assert second.wait() == 1
            assert f"ended {run.run_id} failed on far: " in second.told
            assert "no mask" in second.told
        assert first.wait() == 1
    assert paths_of(output, run).claim_numbers() == [1]


def test_a_failure_that_is_worth_another_attempt_is_tried_here(output):
    """The first host leaves it at one attempt; the rules of the second one allow for more."""
    fails_once = '[ "$PAPERGRID_ATTEMPT" -gt 1 ] || { echo address already in use >&2; exit 3; };'
    again = shell(WAIT_FOR_GO + fails_once + LEAVE_RESULT)
    sweep = make_sweep(commands=[again, shell(LEAVE_RESULT)])
    with executor(write_sweep(output, sweep), *FAR) as first:
        run = start_far(first, sweep)
        with executor(output, "--stand-by", "--heartbeat", "0.1", "--default-retries") as second:
            second.wait_for(f"ended {sweep.runs[1].run_id} done")
            (paths_of(output, run).root / "go").touch()
            assert second.wait() == 0
        assert first.wait() in (0, 1)
    assert read_result(paths_of(output, run).result).attempt == 2


def test_a_run_that_failed_before_is_tried_again(output):
    sweep = make_sweep(shell('[ "$PAPERGRID_ATTEMPT" -gt 1 ] || exit 3;' + LEAVE_RESULT))
    write_sweep(output, sweep)
    assert run_here(sweep, output).exit_code == 1
    report = run_here(sweep, output, stand_by=True)
    assert report.endings[sweep.runs[0].run_id].outcome is RunOutcome.DONE


def test_an_idle_slot_takes_a_dead_owners_run_while_another_slot_works(output):
    first_hangs = shell(f'[ "$1" = 1 ] && {{ {WAIT_FOR_GO} }}; ' + LEAVE_RESULT)
    sweep = make_sweep(commands=[HANG_ONCE, first_hangs])
    taken, working = sweep.runs
    with executor(write_sweep(output, sweep), *SOON_DEAD) as first:
        start_far(first, sweep)
        with executor(output, "2", "--stand-by", "--heartbeat", "0.1") as second:
            second.wait_for(f"started {working.run_id}")
            first.send(signal.SIGKILL)
            second.wait_for(f"ended {taken.run_id} done")
            (paths_of(output, working).root / "go").touch()
            assert second.wait() == 0


def test_asked_to_stop_it_waits_no_longer(output):
    sweep = make_sweep(HANG_ONCE)
    with executor(write_sweep(output, sweep), *FAR) as first:
        run = start_far(first, sweep)
        with executor(output, "--stand-by", "--heartbeat", "0.1") as second:
            wait_until(lambda: len(second.children()) == 1, "its guard")
            second.send(signal.SIGTERM)
            assert second.wait() == 130
            assert f"ended {run.run_id} running elsewhere on far" in second.told


def test_a_run_that_waits_for_its_retry_elsewhere_is_retried_here_at_once(output):
    """Both know from its records how often it may be tried; who waits for it need not be first."""
    flaky = shell(WAIT_FOR_GO + '[ "$PAPERGRID_ATTEMPT" -gt 1 ] || kill -KILL $$;' + LEAVE_RESULT)
    sweep = make_sweep(flaky)
    near = ("--stand-by", "--heartbeat", "0.1", "--retries", "1")
    with executor(write_sweep(output, sweep), *FAR, "--retries", "1") as first:
        run = start_far(first, sweep)
        with executor(output, *near) as second:
            wait_until(lambda: len(second.children()) == 1, "its guard")
            (paths_of(output, run).root / "go").touch()
            assert second.wait() == 0, second.told
            assert f"started {run.run_id} 2" in second.told
        assert f"again {run.run_id} killed" in first.told
    assert read_result(paths_of(output, run).result).attempt == 2


def fail_on_far(paths: RunPaths, config_hash: str) -> None:
    """An attempt of another host fails, from its claim to its release."""
    owner = replace(this_owner(), host="far", boot_id="far")
    taken = take(paths, config_hash, owner, now=time.time())
    assert isinstance(taken, Taken)
    record = AttemptRecord(
        number=taken.claim.number,
        token=taken.claim.token,
        owner=owner,
        command=(),
        device="cpu",
        devices=(),
        started=time.time(),
        code={},
        ended=time.time(),
        exit_code=3,
        outcome=Outcome.FAILED,
        cause=Cause.UNKNOWN,
        reason="no mask",
    )
    write_json(paths.attempt(record.number).record, record.to_json())
    release(paths, taken.claim)


class WhileItTakes(FolderClaims):
    """Something happens after the executor has looked at a run and before it claims the run."""

    def __init__(self, event: Callable[[RunPaths, str], None], times: int) -> None:
        self.event, self.left = event, times

    def take(self, paths, config_hash, owner, **settings):
        while self.left:
            self.left -= 1
            self.event(paths, config_hash)
        return super().take(paths, config_hash, owner, **settings)


@pytest.mark.parametrize(("num_failures", "outcome"), [(1, "done"), (2, "failed"), (3, "failed")])
def test_failures_between_a_look_at_a_run_and_its_claim_count(output, num_failures, outcome):
    sweep = make_sweep(shell(LEAVE_RESULT))
    run = sweep.runs[0]
    write_sweep(output, sweep)
    report = run_here(
        sweep,
        output,
        stand_by=True,
        claims=WhileItTakes(fail_on_far, num_failures),
        retries=Policy(rules={Cause.UNKNOWN: Rule(limit=1)}),
    )
    ending = report.endings[run.run_id]
    assert ending.outcome == outcome
    paths = paths_of(output, run)
    assert paths.attempt(num_failures + 1).record.exists() is (outcome == "done")
    assert outcome == "done" or ending.reason == "on far: no mask"
    assert read_claim(paths.claim(num_failures + 1)).released


@pytest.mark.parametrize(("command_age_s", "outcome"), [(0.0, "done"), (60.0, "failed")])
def test_a_failure_before_an_executor_began_counts_if_its_command_is_older(
    output, command_age_s, outcome
):
    """Executors that are started together may be slow to begin; a later command means it."""
    sweep = make_sweep(shell(LEAVE_RESULT))
    run = sweep.runs[0]
    fail_on_far(paths_of(write_sweep(output, sweep), run), run.config_hash)
    begun = time.monotonic() - command_age_s
    report = run_here(sweep, output, stand_by=True, begun=begun)
    assert report.endings[run.run_id].outcome == outcome


def test_a_claim_that_was_given_back_without_an_attempt_hides_no_failure(output):
    sweep = make_sweep(shell(LEAVE_RESULT))
    run = sweep.runs[0]
    paths = paths_of(write_sweep(output, sweep), run)
    fail_on_far(paths, run.config_hash)
    taken = take(paths, run.config_hash, replace(this_owner(), host="farther"), now=time.time())
    assert isinstance(taken, Taken)
    release(paths, taken.claim)
    report = run_here(sweep, output, stand_by=True, begun=time.monotonic() - 60)
    assert report.endings[run.run_id].reason == "on far: no mask"
    assert paths.claim_numbers() == [1, 2]
