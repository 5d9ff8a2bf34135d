"""Workers' records: what follows from them without a request to a server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from merge.errors import UsageError
from merge.records.records import WorkerRecord, read_worker
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.machine.owners import this_owner
from orchestrator.servers.control import record_script, signal_script
from orchestrator.servers.worker_record import worker_record
from orchestrator.servers.workers import (
    Worker,
    WorkerState,
    read_workers,
    refuse_cancel_across_folders,
    worker_state,
)

FAR = replace(this_owner(), host="far", boot_id="far")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, WorkerState.AT_WORK),
        ({"expiry_s": 3.0}, WorkerState.SILENT),
        ({"ended": 1.0, "exit_code": 0}, WorkerState.FINISHED),
        ({"ended": 1.0, "exit_code": 130}, WorkerState.STOPPED),
        ({"ended": 1.0, "exit_code": 3}, WorkerState.FAILED),
        ({"owner": replace(this_owner(), pid=1 << 30)}, WorkerState.FAILED),
        (None, WorkerState.NOT_STARTED),
    ],
)
def test_a_worker_s_state_follows_from_its_record(tmp_path, fields, expected):
    # Whatever time the worker's own clock shows.
    written = {"name": "h", "owner": FAR, "started": 1.0, "heartbeat": 1.0}
    record = None if fields is None else WorkerRecord(**{**written, **fields})
    worker = Worker(submission="s", name="h", ssh="h", log=tmp_path, record=record, silence_s=5.0)
    assert worker_state(worker, this_owner()) is expected


def test_a_worker_on_a_folder_of_its_own_is_one_that_was_not_asked(tmp_path):
    document = {
        **{"schema": 1, "kind": "servers", "ssh_config": None, "connect_timeout_s": 5},
        "claims": "s3://papers/abcb",
        "servers": [{"name": "h1", "ssh": "h1", "num_runs": 3, "output": "/far/out"}],
    }
    write_json(SweepPaths(tmp_path).submission("a").record, document)
    (worker,) = read_workers(tmp_path)
    assert worker_state(worker) is WorkerState.NOT_ASKED
    assert worker.log == SweepPaths(Path("/far/out")).submission("a").log("h1")
    assert worker_state(replace(worker, remote_record=None)) is WorkerState.NOT_STARTED
    with pytest.raises(UsageError, match=r"cancel .* --workers"):
        refuse_cancel_across_folders(tmp_path)
    write_json(SweepPaths(tmp_path).submission("b").record, {**document, "claims": None})
    refuse_cancel_across_folders(tmp_path)


def test_a_record_is_reported_on_one_line_for_any_path(tmp_path):
    path = tmp_path / "it's a $(touch pwned)\nfolder" / "h1.json"
    assert reported(record_script(path)) == "absent"
    with worker_record(path, 60.0):
        word, now, text = reported(record_script(path)).split(" ", 2)
        assert (word, json.loads(text)) == ("record", read_worker(path).to_json())
        assert abs(int(now) - time.time()) < 60
    assert "\n" not in text


def test_a_damaged_record_is_shown_and_hides_no_other(tmp_path):
    output = SweepPaths(tmp_path)
    good = {
        **{"schema": 1, "kind": "servers", "ssh_config": None, "connect_timeout_s": 5},
        "servers": [{"name": "h1", "ssh": "h1", "num_runs": 3}],
    }
    write_json(output.submission("a").record, {"schema": 1, "kind": "slurm"})
    write_json(output.submission("b").record, {"schema": 1, "kind": "servers"})
    write_json(output.submission("c").record, good)
    output.submission("d").record.parent.mkdir()
    output.submission("e").record.parent.mkdir()
    output.submission("e").record.write_text("{")
    write_json(output.submission("f").record, good)
    output.submission("f").worker("h1").parent.mkdir()
    output.submission("f").worker("h1").write_text("[]")
    found = {worker.submission: worker for worker in read_workers(tmp_path)}
    assert list(found) == ["b", "c", "e", "f"]
    assert {name: worker_state(worker) for name, worker in found.items()} == {
        "b": WorkerState.UNKNOWN,
        "c": WorkerState.NOT_STARTED,
        "e": WorkerState.UNKNOWN,
        "f": WorkerState.UNKNOWN,
    }


def test_a_worker_record_has_a_heartbeat_and_the_exit_code(tmp_path):
    path = tmp_path / "workers" / "h1.json"
    with worker_record(path, 0.06) as worker_exit:
        first = read_worker(path)
        deadline = time.monotonic() + 60
        while read_worker(path).heartbeat == first.heartbeat:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        worker_exit.exit_code = 3
    last = read_worker(path)
    assert (first.name, first.owner, first.ended) == ("h1", this_owner(), None)
    assert (last.exit_code, last.ended) == (3, last.heartbeat)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [(UsageError("no such run"), 2, "no such run"), (KeyError("x"), 1, "KeyError: 'x'")],
)
def test_a_worker_record_says_which_error_ended_the_worker(tmp_path, error, code, reason):
    path = tmp_path / "h1.json"
    with pytest.raises(type(error)), worker_record(path, 60.0):
        raise error
    last = read_worker(path)
    assert (last.exit_code, last.reason) == (code, reason)
    with pytest.raises(UsageError, match="another worker's record"), worker_record(path, 60.0):
        pass


def test_only_the_very_process_that_is_meant_is_signalled():
    words = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            owner = replace(this_owner(), pid=process.pid)
            stat = Path(f"/proc/{process.pid}/stat").read_text()
            owner = replace(owner, pid_started=stat.rpartition(")")[2].split()[19])
            others = [replace(owner, boot_id="other"), replace(owner, pid_started="1")]
            assert [reported(signal_script(each, "KILL")) for each in others] == ["gone", "gone"]
            assert process.poll() is None
            assert reported(signal_script(owner, "")) == "running"
            assert reported(signal_script(owner, "KILL")) == "signalled"
            assert process.wait(60) == -9
            assert reported(signal_script(owner, "KILL")) == "gone"
        finally:
            process.kill()


def reported(script: str) -> str:
    words = f"report() {{ printf '%s' \"$1\"; }}\n{script}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=True)
    return done.stdout
