"""A terminal that closes while `replicate run` trains: one request to stop, not two."""

from __future__ import annotations

import os
import pty
import shlex
import signal
import sys
from pathlib import Path

import pytest
from support.commands import MarkedCommand
from support.executors import wait_until

from merge.records.records import Outcome, read_attempt, read_claim
from merge.storage.paths import SweepPaths

pytestmark = pytest.mark.system

STUDY = """\
name: closed
command: [sh, -c, 'trap "sleep 1; touch $PAPERGRID_RUN_DIR/checkpoint; exit 0" TERM; echo ready;
  while :; do sleep 0.02; done']
metric: score
axes: {seed: [1, 2]}
average_over: seed
"""


def start_in_terminal(command: MarkedCommand) -> tuple[int, int]:
    """Type `command` into a shell that leads a terminal; the shell's id and the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        environment = {**os.environ, "PAPERGRID_TEST_MARK": command.mark}
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)
    words = [sys.executable, "-m", "replicate.cli.main", *map(str, command.words)]
    os.write(terminal, f"cd {shlex.quote(str(command.cwd))}; {shlex.join(words)}\n".encode())
    return pid, terminal


def test_all_checkpoints_are_written_before_the_command_ends(tmp_path):
    """The command gets two SIGHUP: one of the shell, and one of the kernel when the shell ends."""
    study, output = tmp_path / "study.yaml", tmp_path / "out"
    study.write_text(STUDY)
    words = ["run", "--study", study, "--output-dir", output, "--devices", "cpu:2"]
    command = MarkedCommand(words, tmp_path)
    leader, terminal = start_in_terminal(command)
    runs = [SweepPaths(output).run(f"seed={seed}") for seed in (1, 2)]
    try:
        for run in runs:
            log = run.attempt(1).stdout
            wait_until(lambda log=log: log.exists() and log.read_text(), "the command's trap")
        os.close(terminal)
        os.waitpid(leader, 0)
        wait_until(lambda: not command.processes(), "the end of the command")
    finally:
        for pid in command.processes():
            os.kill(pid, signal.SIGKILL)
    for run in runs:
        assert_stopped_in_order(run.root, read_attempt(run.attempt(1).record).reason)
        assert read_attempt(run.attempt(1).record).outcome is Outcome.INTERRUPTED
        assert read_claim(run.claim(1)).released


def assert_stopped_in_order(folder: Path, reason: str) -> None:
    assert (folder / "checkpoint").exists()
    assert reason == "stopped on request, after its checkpoint"
