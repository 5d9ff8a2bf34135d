"""What the system refuses while an executor works: files, threads and processes."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any, cast

import pytest
from support.executors import run_here, wait_until
from support.failing_disk import ERRNOS, Fault, failing_system
from support.sweeps import LEAVE_RESULT, make_sweep, shell, write_sweep

from merge.errors import SystemLimitError
from merge.records.records import Cause, Outcome, read_attempt, read_claim
from merge.records.result import read_result
from merge.records.sweep import Sweep
from merge.results.view import rebuild
from merge.storage.clock import SYSTEM_CLOCK
from merge.storage.paths import RunPaths, SweepPaths
from orchestrator.local import second_tries
from orchestrator.local.attempt import Attempt
from orchestrator.local.events import Notice, RunOutcome
from orchestrator.machine import limits
from orchestrator.machine.guard import marked_processes
from orchestrator.runs.retries import Policy, Rule

LEAVE_TRACE = 'echo x >> "$PAPERGRID_RUN_DIR/starts";'


def paths_of(output: Path, sweep: Sweep) -> list[RunPaths]:
    return [SweepPaths(output).run(run.path) for run in sweep.runs]


@pytest.fixture
def quick(monkeypatch):
    """The waits for what may pass are real ones."""
    monkeypatch.setattr(second_tries, "_WAITS_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(limits.patiently, "__defaults__", ((0.0, 0.0),))


def test_no_failing_operation_loses_or_doubles_a_result(tmp_path, quick):
    """Every eleventh operation in turn: the sweep goes on, and the same command finishes it."""
    errnos, at, num_whole = cycle(ERRNOS), 0, 0
    while True:
        output = tmp_path / str(at)
        sweep = make_sweep(shell(LEAVE_TRACE + LEAVE_RESULT), folds=2)
        write_sweep(output, sweep)
        fault = Fault(next(errnos), at, is_done=at % 2 == 1)
        with failing_system(fault, output):
            report = run_here(sweep, output, slots=2, on_completion=lambda _, o=output: rebuild(o))
        if not fault.has_struck:
            break
        num_whole += report.exit_code == 0
        # At most the run that met the failure lacks its result.
        assert len(report.having(RunOutcome.DONE)) >= 1, (fault, report)
        assert run_here(sweep, output, slots=2).exit_code == 0, fault
        for run, paths in zip(sweep.runs, paths_of(output, sweep), strict=True):
            assert read_result(paths.result).metrics == {"score": run.axes["fold"]}
            assert paths.results_aside() == []
            assert all(read_claim(paths.claim(n)).released for n in paths.claim_numbers()), fault
        at += 11
    assert at > 70
    # Failures that may pass cost nothing.
    assert num_whole > at // 11 // 2


@pytest.mark.parametrize("number", [*ERRNOS, errno.EROFS, errno.ENFILE])
def test_a_view_that_cannot_be_written_ends_no_training(tmp_path, number):
    """One run is done and merged in vain while the other one trains."""
    wait = 'while [ ! -e "$PAPERGRID_RUN_DIR/go" ]; do sleep 0.01; done;'
    sweep = make_sweep(commands=[shell(LEAVE_RESULT), shell(wait + LEAVE_RESULT)])
    write_sweep(tmp_path, sweep)
    _, second = paths_of(tmp_path, sweep)
    events: list[object] = []

    def merge(_: object) -> None:
        try:
            with failing_system(Fault(number, 0, lasts=True), tmp_path):
                rebuild(tmp_path)
        finally:
            (second.root / "go").touch()

    report = run_here(sweep, tmp_path, slots=2, events=events, on_completion=merge)
    assert report.exit_code == 0
    assert any("training continues" in each.message for each in events if isinstance(each, Notice))
    assert read_attempt(second.attempt(1).record).cause is Cause.DONE


class Refusing:
    """Refuses the next `count` calls of what starts threads or processes, with `error`."""

    def __init__(self, count: int, start: Callable[..., object], error: Exception) -> None:
        self.count = count
        self._start = start
        self._error = error

    def __call__(self, *args: object, **named: object) -> object:
        if self.count > 0:
            self.count -= 1
            raise self._error
        return self._start(*args, **named)


NO_THREAD = RuntimeError("can't start new thread")
NO_PROCESS = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
NO_MEMORY = OSError(errno.ENOMEM, "Cannot allocate memory")


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception, count: int) -> None:
    """Refuse from the start of the first run on: the guard and the heartbeat are there."""
    module, name = (
        (threading, "_start_new_thread") if error is NO_THREAD else (subprocess, "_fork_exec")
    )
    refusing = Refusing(0, getattr(module, name), error)
    monkeypatch.setattr(module, name, refusing)
    counts = iter([count])

    def free_port() -> int:
        refusing.count = next(counts, refusing.count)
        return 1

    monkeypatch.setattr("orchestrator.local.attempt.free_port", free_port)


@pytest.mark.parametrize("error", [NO_THREAD, NO_PROCESS, NO_MEMORY], ids=str)
def test_a_thread_or_a_process_that_is_to_be_had_soon_is_waited_for(
    tmp_path, monkeypatch, quick, error
):
    sweep = make_sweep(shell(LEAVE_TRACE + LEAVE_RESULT))
    refuse(monkeypatch, error, 2)
    assert run_here(sweep, tmp_path).exit_code == 0
    (paths,) = paths_of(tmp_path, sweep)
    assert (paths.root / "starts").read_text() == "x\n"
    assert read_attempt(paths.attempt(1).record).cause is Cause.DONE


@pytest.mark.parametrize("error", [NO_THREAD, NO_PROCESS, NO_MEMORY], ids=str)
def test_without_a_thread_or_a_process_nothing_is_left_and_the_run_is_tried_again(
    tmp_path, monkeypatch, quick, error
):
    sweep = make_sweep(shell(LEAVE_TRACE + "sleep 600"))
    refuse(monkeypatch, error, 10**6)
    policy = Policy(rules={Cause.SYSTEM_LIMIT: Rule(limit=1)})
    events: list[object] = []
    report = run_here(sweep, tmp_path, retries=policy, events=events)
    (ending,) = report.endings.values()
    assert (ending.outcome, ending.cause) == (RunOutcome.FAILED, Cause.SYSTEM_LIMIT)
    assert "cannot be started now" in ending.reason
    assert "install it" not in ending.reason
    (paths,) = paths_of(tmp_path, sweep)
    assert paths.claim_numbers() == [1, 2]
    for number in (1, 2):
        record = read_attempt(paths.attempt(number).record)
        assert (record.outcome, record.cause) == (Outcome.FAILED, Cause.SYSTEM_LIMIT)
        claim = read_claim(paths.claim(number))
        assert claim.released
        assert marked_processes("PAPERGRID_TOKEN", claim.token) == []
    assert not (paths.root / "starts").exists()


def test_an_executor_without_a_guard_starts_nothing(tmp_path, monkeypatch):
    sweep = make_sweep(shell(LEAVE_TRACE + LEAVE_RESULT))
    refusing = Refusing(1, threading._start_new_thread, NO_THREAD)
    monkeypatch.setattr(threading, "_start_new_thread", refusing)
    with pytest.raises(SystemLimitError, match="no further process or thread"):
        run_here(sweep, tmp_path)
    assert not list(tmp_path.rglob("starts"))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NO_PROCESS, "a new one was started"),
        (OSError(errno.ENOENT, "No such file or directory"), "died and cannot be replaced: [Err"),
    ],
)
def test_a_guard_that_cannot_be_replaced_at_once_is_replaced_later(
    tmp_path, monkeypatch, error, told
):
    wait = 'while [ ! -e "$PAPERGRID_RUN_DIR/go" ]; do sleep 0.01; done;'
    sweep = make_sweep(shell("echo ready;" + wait + LEAVE_RESULT))
    (paths,) = paths_of(tmp_path, sweep)
    refusing = Refusing(0, subprocess._fork_exec, error)
    monkeypatch.setattr(subprocess, "_fork_exec", refusing)
    guards: list[int] = []
    start = subprocess.Popen

    def popen(words: object, *args: object, **named: object) -> object:
        started = start(words, *args, **named)
        if "guard.py" in str(words):
            guards.append(started.pid)
        return started

    monkeypatch.setattr(subprocess, "Popen", popen)
    events: list[object] = []

    def disturb() -> None:
        log = paths.attempt(1).stdout
        wait_until(lambda: log.exists() and log.read_text(), "the command")
        refusing.count = 1
        os.kill(guards[0], 9)
        wait_until(lambda: len(guards) == 2, "a new guard")
        (paths.root / "go").touch()

    thread = threading.Thread(target=disturb)
    thread.start()
    report = run_here(sweep, tmp_path, events=events)
    thread.join()
    assert report.exit_code == 0
    messages = [each.message for each in events if isinstance(each, Notice)]
    assert sum(told in message for message in messages) == 1
    assert sum("a new one was started" in message for message in messages) == 1


class NotOurs:
    """A command that has become another user's."""

    def kill(self) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")


def test_a_command_that_cannot_be_killed_keeps_no_other_from_being_stopped(tmp_path, caplog):
    (run,) = make_sweep(["sudo", "x"]).runs
    unused: Any = None
    attempt = Attempt(
        run=run,
        paths=RunPaths(tmp_path),
        claim=unused,
        record=unused,
        process=cast(Any, NotOurs()),
        silence=unused,
        clock=SYSTEM_CLOCK,
        num_oom_kills=0,
    )
    attempt.kill(Cause.INTERRUPTED)
    assert attempt.stop_cause is Cause.INTERRUPTED
    assert "cannot be killed" in caplog.text


@pytest.mark.parametrize(
    ("content", "mode", "cause", "words"),
    [
        (None, 0o755, Cause.CONFIG, "install it, or correct the study"),
        ("#!/bin/sh\n", 0o644, Cause.CONFIG, "install it, or correct the study"),
        ("no program", 0o755, Cause.CONFIG, "install it, or correct the study"),
    ],
)
def test_what_a_study_can_correct_is_said_to_be_so(tmp_path, content, mode, cause, words):
    command = tmp_path / "train"
    if content is not None:
        command.write_text(content)
        command.chmod(mode)
    sweep = make_sweep([str(command)])
    (ending,) = run_here(sweep, tmp_path / "out").endings.values()
    (paths,) = paths_of(tmp_path / "out", sweep)
    assert words in ending.reason
    assert read_attempt(paths.attempt(1).record).cause is cause


def test_a_word_that_no_command_can_have_is_refused_and_recorded(tmp_path):
    sweep = make_sweep(["sh", "-c", "echo \0"])
    (ending,) = run_here(sweep, tmp_path).endings.values()
    (paths,) = paths_of(tmp_path, sweep)
    record = read_attempt(paths.attempt(1).record)
    assert (record.cause, record.reason) == (Cause.CONFIG, ending.reason)
    assert "a word of the command cannot be used: embedded null byte" in ending.reason


def test_a_file_system_that_does_not_give_the_command_is_no_fault_of_the_study(
    tmp_path, monkeypatch
):
    sweep = make_sweep(shell(LEAVE_RESULT))
    error = OSError(errno.EIO, "Input/output error")
    monkeypatch.setattr("orchestrator.local.second_tries._WAITS_S", (0.0,))
    refuse(monkeypatch, error, 1)
    report = run_here(sweep, tmp_path)
    assert report.exit_code == 0
    (paths,) = paths_of(tmp_path, sweep)
    record = read_attempt(paths.attempt(1).record)
    assert (record.cause, "install it" in record.reason) == (Cause.DISK_FULL, False)
