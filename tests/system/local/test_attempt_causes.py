"""Ends of real commands: each has its cause, and is tried again as its rule says."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.executors import executor, marked, run_here, wait_until
from support.sweeps import LEAVE_RESULT, make_sweep, shell, write_sweep

from merge.records.records import Cause, Outcome, RequestAction, read_attempt
from merge.records.result import read_result
from merge.records.sweep import Run, Sweep
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.local.events import RunOutcome, RunRetried, RunStarted
from orchestrator.machine.guard import marked_processes
from orchestrator.runs.requests import ask
from orchestrator.runs.retries import Policy, Rule
from orchestrator.runs.states import State, derive_state, read_facts

pytestmark = pytest.mark.system

TWICE = Policy(rules={cause: Rule(limit=2) for cause in Cause})

PORT = """
import socket
first, second = socket.socket(), socket.socket()
first.bind(("127.0.0.1", 0))
second.bind(first.getsockname())
"""

CUDA_TEXT = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."

FITS_TWO = shell(
    'micro="${PAPERGRID_MICRO_BATCH:-$PAPERGRID_CONFIG_MICRO_BATCH}";'
    f'if [ "$micro" -gt 2 ]; then echo "{CUDA_TEXT}" >&2; exit 1; fi;' + LEAVE_RESULT
)
"""A trainer for whose micro-batches of more than 2 the GPU's memory is too small."""


def paths_of(output: Path, run: Run) -> RunPaths:
    return SweepPaths(output).run(run.path)


def attempts_of(output: Path, sweep: Sweep) -> list:
    paths = paths_of(output, sweep.runs[0])
    return [read_attempt(paths.attempt(number).record) for number in paths.claim_numbers()]


def python(code: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *words)


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        (shell("kill -KILL $$"), Cause.KILLED),
        (shell("kill -SEGV $$"), Cause.KILLED),
        (shell("kill -TERM $$"), Cause.KILLED),
        (shell("cat /etc/hostname > /dev/full"), Cause.DISK_FULL),
        (shell("exit 75"), Cause.DISK_FULL),
        (shell("true"), Cause.NO_RESULT),
        (shell(f"echo '{CUDA_TEXT}' >&2; exit 1"), Cause.CUDA_OOM),
        (shell(f"echo '{CUDA_TEXT}'; exit 1"), Cause.CUDA_OOM),
        (python("bytes(2**62)"), Cause.HOST_OOM),
        (python(PORT), Cause.PORT_IN_USE),
        (python("raise FloatingPointError('loss is nan')"), Cause.NAN_LOSS),
        (python("raise KeyError('lr')"), Cause.UNKNOWN),
        (("no-such-program-here",), Cause.CONFIG),
        (
            shell(
                """echo '{"kind": "data", "message": "no mask"}' """
                """ > "$PAPERGRID_ATTEMPT_DIR/error.json"; exit 1"""
            ),
            Cause.DATA,
        ),
    ],
)
def test_the_cause_of_a_failure_is_recorded_and_shown(tmp_path, command, cause):
    sweep = make_sweep(command)
    run_here(sweep, tmp_path)
    (attempt,) = attempts_of(tmp_path, sweep)
    assert (attempt.outcome, attempt.cause) == (Outcome.FAILED, cause)
    state = derive_state(read_facts(tmp_path, sweep.runs[0]), 0.0)
    assert (state.state, state.cause) == (State.FAILED, cause)


def test_a_result_counts_though_its_trainer_aborts_when_it_leaves(tmp_path):
    sweep = make_sweep(shell(LEAVE_RESULT + "kill -ABRT $$"))
    report = run_here(sweep, tmp_path, retries=TWICE)
    assert report.exit_code == 0
    (attempt,) = attempts_of(tmp_path, sweep)
    assert (attempt.outcome, attempt.cause) == (Outcome.DONE, Cause.UNCLEAN_EXIT)
    assert "killed by SIGABRT" in attempt.reason
    assert read_result(paths_of(tmp_path, sweep.runs[0]).result).metrics == {"score": 0}


def test_a_run_that_fails_by_chance_is_tried_again_and_the_others_go_on(tmp_path):
    flaky = shell('[ "$PAPERGRID_ATTEMPT" -gt 2 ] || kill -KILL $$;' + LEAVE_RESULT)
    sweep = make_sweep(commands=[flaky, shell(LEAVE_RESULT)])
    events = []
    report = run_here(sweep, tmp_path, retries=TWICE, events=events)
    assert report.exit_code == 0
    causes = [attempt.cause for attempt in attempts_of(tmp_path, sweep)]
    assert causes == [Cause.KILLED, Cause.KILLED, Cause.DONE]
    assert [h.count for h in events if isinstance(h, RunRetried)] == [1, 2]
    assert len(report.endings) == 2


def test_a_wait_lets_other_runs_have_the_device(tmp_path):
    flaky = shell('[ "$PAPERGRID_ATTEMPT" -gt 1 ] || kill -KILL $$;' + LEAVE_RESULT)
    sweep = make_sweep(commands=[flaky, shell(LEAVE_RESULT), shell(LEAVE_RESULT)])
    policy = Policy(rules={Cause.KILLED: Rule(limit=1, wait_s=6.0)})
    events = []
    report = run_here(sweep, tmp_path, retries=policy, events=events)
    assert report.exit_code == 0
    started = [h.run.axes["fold"] for h in events if isinstance(h, RunStarted)]
    assert started == [0, 1, 2, 0]


def test_what_cannot_be_mended_is_not_tried_again(tmp_path):
    sweep = make_sweep(python("raise FloatingPointError('loss is nan')"))
    report = run_here(sweep, tmp_path, retries=Policy())
    assert report.endings["run-fold0"].cause is Cause.NAN_LOSS
    assert len(attempts_of(tmp_path, sweep)) == 1


def test_a_restarted_executor_counts_the_attempts_of_the_first(tmp_path):
    sweep = make_sweep(shell("kill -KILL $$"))
    for expected in (3, 4):
        report = run_here(sweep, tmp_path, retries=TWICE)
        assert report.exit_code == 1
        assert len(attempts_of(tmp_path, sweep)) == expected
    assert "tried again 2 times after killed" in report.endings["run-fold0"].reason


def test_after_cuda_oom_the_micro_batch_is_halved_and_the_result_says_so(tmp_path):
    sweep = make_sweep(FITS_TWO, config={"micro_batch": 8})
    report = run_here(sweep, tmp_path, retries=Policy())
    assert report.exit_code == 0
    attempts = attempts_of(tmp_path, sweep)
    assert [attempt.micro_batch for attempt in attempts] == [8, 4, 2]
    paths = paths_of(tmp_path, sweep.runs[0])
    result = read_result(paths.result)
    assert result.deviations == {
        "micro_batch": {"planned": 8, "used": 2, "cause": "cuda_oom", "attempt": 2}
    }
    assert result.config_hash == sweep.runs[0].config_hash
    assert json.loads(paths.spec.read_text())["config"]["micro_batch"] == 8


def test_where_batch_norm_was_trained_a_halved_micro_batch_changes_the_number(tmp_path):
    leave = """printf '{"metrics": {"score": 1}, "details": {"batch_norm_items": 4}}'"""
    command = shell(
        f'[ "$PAPERGRID_ATTEMPT" != 1 ] || {{ echo "{CUDA_TEXT}" >&2; exit 1; }};'
        f'{leave} > "$PAPERGRID_ATTEMPT_DIR/result.json"'
    )
    sweep = make_sweep(command, config={"micro_batch": 8})
    assert run_here(sweep, tmp_path, retries=Policy()).exit_code == 0
    deviation = read_result(paths_of(tmp_path, sweep.runs[0]).result).deviations["micro_batch"]
    assert (deviation["used"], deviation["changes_number"]) == (4, True)


def test_a_resume_with_another_number_of_ranks_is_a_deviation_that_changes_the_number(tmp_path):
    leave = """printf '{"metrics": {"score": 1}, "details": {"world_sizes": [4, 2]}}'"""
    sweep = make_sweep(shell(f'{leave} > "$PAPERGRID_ATTEMPT_DIR/result.json"'))
    assert run_here(sweep, tmp_path).exit_code == 0
    assert read_result(paths_of(tmp_path, sweep.runs[0]).result).deviations == {
        "world_size": {"planned": "4", "used": "2 after a resume", "changes_number": True}
    }


def test_what_a_retry_goes_on_from_was_trained_otherwise_and_its_result_says_so(tmp_path):
    """Counted anew, the third attempt is given the planned micro-batch again."""
    command = shell(
        f'[ "$PAPERGRID_ATTEMPT" != 1 ] || {{ echo "{CUDA_TEXT}" >&2; exit 1; }};'
        '[ "$PAPERGRID_ATTEMPT" != 2 ] || exit 3;' + LEAVE_RESULT
    )
    sweep = make_sweep(command, config={"micro_batch": 8})
    assert run_here(sweep, tmp_path, retries=Policy()).exit_code == 1
    paths = paths_of(tmp_path, sweep.runs[0])
    ask(paths, RequestAction.RETRY, now=0.0)
    assert run_here(sweep, tmp_path, retries=Policy()).exit_code == 0
    assert [attempt.micro_batch for attempt in attempts_of(tmp_path, sweep)] == [8, 4, 8]
    assert read_result(paths.result).deviations == {
        "micro_batch": {"planned": 8, "used": 4, "cause": "cuda_oom", "attempt": 1}
    }


def test_a_micro_batch_of_one_that_does_not_fit_is_the_end(tmp_path):
    sweep = make_sweep(shell(f"echo '{CUDA_TEXT}' >&2; exit 1"), config={"micro_batch": 2})
    report = run_here(sweep, tmp_path, retries=Policy())
    assert "not even a micro-batch of 1 fits" in report.endings["run-fold0"].reason
    assert len(attempts_of(tmp_path, sweep)) == 2


def test_after_host_oom_there_are_fewer_loaders(tmp_path):
    needs_one = shell(
        '[ "$PAPERGRID_NUM_WORKERS" -le 1 ] || { echo MemoryError >&2; exit 1; };' + LEAVE_RESULT
    )
    sweep = make_sweep(needs_one, num_workers=4)
    policy = Policy(rules={Cause.HOST_OOM: Rule(limit=4)})
    assert run_here(sweep, tmp_path, retries=policy).exit_code == 0
    assert [attempt.num_workers for attempt in attempts_of(tmp_path, sweep)] == [4, 2, 1]
    assert read_result(paths_of(tmp_path, sweep.runs[0]).result).deviations == {}


def test_a_value_that_decides_no_number_may_change_under_a_begun_run(tmp_path):
    """The next attempt gets it; run.json stays as it was written."""
    fails_once = shell(
        'cat "$PAPERGRID_RUN_SPEC" > "$PAPERGRID_ATTEMPT_DIR/seen.json";'
        '[ "$PAPERGRID_CONFIG_PANELS" = 9 ] || exit 1;' + LEAVE_RESULT
    )
    before = make_sweep(fails_once, config={"panels": 4}, free_keys=["panels"])
    (run,) = before.runs
    paths = paths_of(tmp_path, run)
    assert run_here(before, tmp_path).exit_code == 1
    written = paths.spec.read_bytes()
    after = replace(before, runs=(replace(run, config={**run.config, "panels": 9}),))
    assert run_here(after, tmp_path).exit_code == 0
    seen = [json.loads((paths.attempt(n).root / "seen.json").read_text()) for n in (1, 2)]
    assert [spec["config"]["panels"] for spec in seen] == [4, 9]
    assert paths.spec.read_bytes() == written
    other = replace(before, runs=(replace(run, config={**run.config, "fold": 5}),))
    paths.result.unlink()
    assert run_here(other, tmp_path).endings["run-fold0"].outcome is RunOutcome.REFUSED


def test_ctrl_c_ends_a_run_that_waits_for_its_retry(tmp_path):
    """The executor runs here, so its wait would outlast the test."""
    sweep = make_sweep(shell("kill -KILL $$"))
    policy = Policy(rules={Cause.KILLED: Rule(limit=1, wait_s=600)})
    events = Interrupting()
    before = signal.getsignal(signal.SIGINT)
    report = run_here(sweep, tmp_path, retries=policy, events=events)
    assert report.exit_code == 130
    assert report.endings["run-fold0"].outcome is RunOutcome.NOT_STARTED
    assert signal.getsignal(signal.SIGINT) is before


class Interrupting(list):
    """Events; the first retry has this process interrupted, as Ctrl-C does."""

    def append(self, event: object) -> None:
        super().append(event)
        if isinstance(event, RunRetried):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_hung_trainer_is_killed_and_tried_again_where_that_was_asked_for(tmp_path):
    hangs_once = shell('[ "$PAPERGRID_ATTEMPT" -gt 1 ] || sleep 600;' + LEAVE_RESULT)
    sweep = make_sweep(hangs_once)
    report = run_here(sweep, tmp_path, retries=Policy(), restart_stalled_s=4.0)
    assert report.exit_code == 0
    causes = [attempt.cause for attempt in attempts_of(tmp_path, sweep)]
    assert causes == [Cause.STALLED, Cause.DONE]


def test_a_trainer_that_writes_now_and_then_is_not_taken_for_hung(tmp_path):
    slow = shell("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done;" + LEAVE_RESULT)
    sweep = make_sweep(slow)
    report = run_here(sweep, tmp_path, retries=Policy(), restart_stalled_s=3.0)
    assert report.exit_code == 0
    assert len(attempts_of(tmp_path, sweep)) == 1


def test_runs_share_a_device_only_as_often_as_allowed(tmp_path):
    busy = shell(
        'log="$PAPERGRID_CACHE_DIR/log"; echo "+" >> "$log";'
        'until [ "$(grep -c + "$log")" -ge 3 ]; do sleep 0.02; done; sleep 0.4;'
        'echo "-" >> "$log";' + LEAVE_RESULT
    )
    (tmp_path / "cache").mkdir()
    report = run_here(make_sweep(busy, folds=6), tmp_path, runs_per_device=3)
    assert report.exit_code == 0
    level, most = 0, 0
    for word in (tmp_path / "cache" / "log").read_text().split():
        level += 1 if word == "+" else -1
        most = max(most, level)
    assert most == 3


def test_ranks_of_one_run_never_share_a_device(tmp_path):
    events = []
    sweep = make_sweep(shell(LEAVE_RESULT), folds=4, devices_per_run=2, launcher="none")
    run_here(sweep, tmp_path, slots=2, runs_per_device=2, events=events)
    started = [h.devices for h in events if isinstance(h, RunStarted)]
    assert started == [("cpu0", "cpu1")] * 4


def test_every_attempt_records_where_it_ran(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    sweep = make_sweep(shell(LEAVE_RESULT))
    run_here(sweep, tmp_path)
    (attempt,) = attempts_of(tmp_path, sweep)
    told = attempt.environment
    assert told["hostname"] == os.uname().nodename
    assert told["cwd"] == str(Path.cwd())
    # What a shell starts is not known: papergrid's own Python must not stand in for it.
    assert (told["python"], told["packages"]) == (None, {})
    assert told["job"] == {
        "SLURM_JOB_ID": "71",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_RESTART_COUNT": "1",
    }


@pytest.mark.parametrize(
    ("number", "environment", "cause"),
    [
        (signal.SIGINT, {}, Cause.INTERRUPTED),
        (signal.SIGTERM, {}, Cause.INTERRUPTED),
        (signal.SIGUSR2, {}, Cause.PREEMPTED),
        (signal.SIGTERM, {"SLURM_JOB_ID": "7"}, Cause.PREEMPTED),
        (signal.SIGUSR2, {"SLURM_JOB_END_TIME": str(int(time.time()) + 60)}, Cause.TIME_LIMIT),
    ],
)
def test_why_it_was_asked_to_stop_is_recorded(tmp_path, monkeypatch, number, environment, cause):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    trap = shell("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    sweep = make_sweep(trap)
    output = tmp_path / "out"
    log = paths_of(output, sweep.runs[0]).attempt(1).stdout
    with executor(write_sweep(output, sweep)) as running:
        wait_until(lambda: log.exists() and log.read_text(), "the trap")
        running.send(number)
        assert running.wait() == 130
    (attempt,) = attempts_of(output, sweep)
    assert (attempt.outcome, attempt.cause) == (Outcome.INTERRUPTED, cause)
    assert derive_state(read_facts(output, sweep.runs[0]), 0.0).state is State.PENDING


RANKS = """
import functools, os, signal, sys
from experiments.runtime.entry import record_failure, run_trainer

def train(context, stop):
    import torch, torch.distributed as dist
    from experiments.runtime import distributed
    on_error = functools.partial(record_failure, context)
    with distributed.process_group("cpu", timeout_s={timeout_s}, on_error=on_error) as ranks:
        pids = distributed.gather_objects(os.getpid(), ranks)
        stop.watch_peers(tuple(pid for pid in pids if pid != os.getpid()))
        if ranks.rank == 1:
            {act}
        distributed.all_reduce_sum(torch.ones(1), ranks)
        stop.watch_peers(())

run_trainer(train)
"""


@pytest.mark.parametrize(
    ("act", "timeout_s", "cause"),
    [
        ("raise ZeroDivisionError('rank one')", 100, Cause.UNKNOWN),
        ("os.kill(os.getpid(), signal.SIGKILL)", 100, Cause.KILLED),
        # Long enough for the ranks to find each other on a busy machine.
        ("import time; time.sleep(600)", 10, Cause.COLLECTIVE_TIMEOUT),
    ],
)
def test_the_end_of_one_rank_is_the_end_of_all_and_names_the_cause(tmp_path, act, timeout_s, cause):
    pytest.importorskip("torch")
    script = tmp_path / "ranks.py"
    script.write_text(RANKS.replace("{act}", act).replace("{timeout_s}", str(timeout_s)))
    root = Path(__file__).resolve().parents[3]
    with marked() as mark:
        sweep = make_sweep(
            (sys.executable, str(script)),
            config={"mark": mark},
            devices_per_run=2,
            launcher="torchrun",
        )
        output = tmp_path / "out"
        report = run_here(sweep, output, slots=2, cwd=root)
        assert marked_processes("PAPERGRID_CONFIG_MARK", mark) == []
    assert report.exit_code == 1
    (attempt,) = attempts_of(output, sweep)
    assert attempt.cause is cause, attempt.reason
