"""Calls over ssh that hang: a dead link must not cost minutes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrator.servers import ssh
from orchestrator.servers.ssh import SshTarget, run_script
from orchestrator.servers.watched import Limits, NoOutputError, run_watched


def run(script: str, **limits: float):
    known = {"total_s": 30.0, "first_s": 30.0, "silence_s": 30.0}
    return run_watched(["sh", "-s"], script.encode(), Limits(**{**known, **limits}))


def test_output_exit_code_and_large_inputs_pass_through():
    ended = run(f"# {'x' * 300_000}\necho out; echo err >&2; exit 7")
    assert (ended.exit_code, ended.stdout, ended.stderr) == (7, b"out\n", b"err\n")


@pytest.mark.parametrize(
    ("script", "limits", "is_total"),
    [
        ("exec sleep 60", {"first_s": 0.3}, False),
        ("echo hello; exec sleep 60", {"silence_s": 0.3}, False),
        ("while echo hello; do sleep 0.1; done", {"total_s": 0.5}, True),
    ],
)
def test_a_command_that_is_silent_or_lasts_too_long_is_ended(script, limits, is_total):
    begun = time.monotonic()
    with pytest.raises(NoOutputError) as caught:
        run(script, **limits)
    assert caught.value.is_total is is_total
    assert time.monotonic() - begun < 20


def ssh_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_a_shared_connection_over_a_dead_link_is_given_up_long_before_the_script_s_own_limit(
    tmp_path, monkeypatch
):
    """A client of a ControlMaster waits for ever: keepalives are options of the master."""
    ssh_that(tmp_path, monkeypatch, "exec sleep 600")
    monkeypatch.setattr(ssh, "_LOGIN_S", -0.5)
    result = run_script(SshTarget(destination="h", connect_timeout_s=1), lambda _: "true", 180.0)
    assert (result.lines, result.exit_code) == ((), 255)
    assert result.error.startswith("no answer in 0 s")
    assert "`ssh -O exit`" in result.error


def test_a_script_that_is_long_silent_is_no_dead_link(tmp_path, monkeypatch):
    ssh_that(tmp_path, monkeypatch, "exec bash -s")
    monkeypatch.setattr(ssh, "_PING_EVERY_S", 0.7)
    begun = time.monotonic()
    result = run_script(
        SshTarget(destination="h"), lambda _: "sleep 2; report done; echo why >&2; exit 3", 60.0
    )
    assert (result.lines, result.exit_code, result.error) == (("done",), 3, "why")
    assert 2 <= time.monotonic() - begun < 20


def test_nothing_of_a_script_is_left_when_its_call_returns(tmp_path, monkeypatch):
    ssh_that(tmp_path, monkeypatch, "exec bash -s")
    monkeypatch.setenv("PAPERGRID_TEST_MARK", str(tmp_path))
    for script in ("report done", "exit 81", "kill -TERM $$"):
        run_script(SshTarget(destination="h"), lambda _, script=script: script, 60.0)
        # What was killed may still be on its way out where all cores are busy.
        end = time.monotonic() + 5
        while left := [path for path in Path("/proc").glob("[0-9]*") if is_of(path, tmp_path)]:
            assert time.monotonic() < end, left
            time.sleep(0.01)


def is_of(process: Path, mark: Path) -> bool:
    if process.name == str(os.getpid()):
        return False
    try:
        return f"PAPERGRID_TEST_MARK={mark}\0".encode() in (process / "environ").read_bytes()
    except OSError:
        return False
