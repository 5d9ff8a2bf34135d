"""Cancelling where a worker seems silent: only its own heartbeat, watched from here, decides."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.sweeps import make_sweep, shell, write_sweep

from merge.records.records import Claim, Owner, WorkerRecord
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import this_owner
from orchestrator.servers.silent import cancel_jobs

EXPIRY_S = 1.5
BEHIND_S = 90.0


@pytest.fixture
def output(tmp_path, monkeypatch) -> Path:
    """A sweep of one run, submitted to the server h1, which ssh reaches as this machine."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text("#!/bin/sh\nexec bash --noprofile --norc -s\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    output = write_sweep(tmp_path / "out", make_sweep(shell("true")))
    document = {
        **{"schema": 1, "kind": "servers", "ssh_config": None, "connect_timeout_s": 5},
        "servers": [{"name": "h1", "ssh": "h1", "num_runs": 1}],
    }
    write_json(SweepPaths(output).submission("a").record, document)
    return output


@contextmanager
def worker(output: Path) -> Iterator[tuple[subprocess.Popen[bytes], Owner]]:
    """A process that has the run, as a worker on another host would: only its record tells."""
    words = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            owner = replace(this_owner(), pid=process.pid, pid_started=stat[19])
            claim = Claim(number=1, token="t", owner=owner, heartbeat=0.0, expiry_s=EXPIRY_S)
            write_json(SweepPaths(output).run("run/fold0").claim(1), claim.to_json())
            beat(output, owner)
            yield process, owner
        finally:
            process.kill()


def beat(output: Path, owner: Owner) -> None:
    """A heartbeat of a host whose clock is behind, on a mount that dates files by that clock."""
    path, now = SweepPaths(output).submission("a").worker("h1"), time.time() - BEHIND_S
    record = WorkerRecord(name="h1", owner=owner, started=1.0, heartbeat=now, expiry_s=EXPIRY_S)
    write_json(path, record.to_json())
    os.utime(path, (now, now))


def test_a_live_worker_whose_clock_is_behind_is_not_killed(output):
    stop = threading.Event()
    with worker(output) as (process, owner):

        def keep_beating() -> None:
            while not stop.wait(0.2):
                beat(output, owner)

        thread = threading.Thread(target=keep_beating)
        thread.start()
        try:
            said = cancel_jobs(output, ["run-fold0"])
        finally:
            stop.set()
            thread.join()
        assert process.poll() is None
    assert said in (["h1: its worker is alive and reads the request"], [])


def test_a_worker_without_a_heartbeat_is_killed_after_its_expiry(output):
    with worker(output) as (process, _):
        begun = time.monotonic()
        assert cancel_jobs(output, ["run-fold0"]) == ["h1: its worker was silent and was killed"]
        assert process.wait(60) == -9
    assert time.monotonic() - begun >= EXPIRY_S


def test_a_worker_whose_process_is_gone_is_not_waited_for(output):
    with worker(output) as (process, _):
        process.kill()
        process.wait()
        said = cancel_jobs(output, ["run-fold0"])
    assert said == ["h1: its worker was silent, and its process is gone"]
