"""Workers' records: what is concluded from them without asking anybody."""

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
from orchestrator.servers.worker_record import beacon
from orchestrator.servers.workers import Condition, Worker, condition, read_workers, refuse_unheard

FAR = replace(this_owner(), host="far", boot_id="far")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"heartbeat": 995.0}, Condition.AT_WORK),
        ({"heartbeat": 939.0}, Condition.SILENT),
        ({"heartbeat": 995.0, "expiry_s": 3.0}, Condition.SILENT),
        ({"heartbeat": 1.0, "ended": 1.0, "exit_code": 0}, Condition.FINISHED),
        ({"heartbeat": 1.0, "ended": 1.0, "exit_code": 130}, Condition.STOPPED),
        ({"heartbeat": 1.0, "ended": 1.0, "exit_code": 3}, Condition.FAILED),
        ({"heartbeat": 995.0, "owner": replace(this_owner(), pid=1 << 30)}, Condition.FAILED),
        (None, Condition.NOT_STARTED),
    ],
)
def test_a_condition_follows_from_the_record(tmp_path, fields, expected):
    record = fields and WorkerRecord(**{"name": "h", "owner": FAR, "started": 1.0, **fields})
    worker = Worker(submission="s", name="h", ssh="h", log=tmp_path, record=record)
    assert condition(worker, 1000.0, this_owner()) is expected


def test_a_worker_on_a_folder_of_its_own_is_one_that_was_not_asked(tmp_path):
    document = {
        **{"schema": 1, "kind": "servers", "ssh_config": None, "connect_timeout_s": 5},
        "claims": "s3://papers/abcb",
        "servers": [{"name": "h1", "ssh": "h1", "num_runs": 3, "output": "/far/out"}],
    }
    write_json(SweepPaths(tmp_path).submission("a").record, document)
    (worker,) = read_workers(tmp_path)
    assert condition(worker, time.time()) is Condition.NOT_ASKED
    assert worker.log == SweepPaths(Path("/far/out")).submission("a").log("h1")
    assert condition(replace(worker, there=None), time.time()) is Condition.NOT_STARTED
    with pytest.raises(UsageError, match=r"cancel .* --workers"):
        refuse_unheard(tmp_path)
    write_json(SweepPaths(tmp_path).submission("b").record, {**document, "claims": None})
    refuse_unheard(tmp_path)


def test_a_record_is_told_on_one_line_whatever_its_name(tmp_path):
    path = tmp_path / "it's a $(touch pwned)\nfolder" / "h1.json"
    assert told(record_script(path)) == "absent"
    with beacon(path, 60.0):
        word, _, text = told(record_script(path)).partition(" ")
        assert (word, json.loads(text)) == ("record", read_worker(path).to_json())
    assert "\n" not in text


def test_a_damaged_record_is_told_and_hides_no_other(tmp_path):
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
    now = time.time()
    assert {name: condition(worker, now) for name, worker in found.items()} == {
        "b": Condition.UNKNOWN,
        "c": Condition.NOT_STARTED,
        "e": Condition.UNKNOWN,
        "f": Condition.UNKNOWN,
    }


def test_a_beacon_beats_and_tells_the_end(tmp_path):
    path = tmp_path / "workers" / "h1.json"
    with beacon(path, 0.06) as telling:
        first = read_worker(path)
        deadline = time.monotonic() + 60
        while read_worker(path).heartbeat == first.heartbeat:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        telling.exit_code = 3
    last = read_worker(path)
    assert (first.name, first.owner, first.ended) == ("h1", this_owner(), None)
    assert (last.exit_code, last.ended) == (3, last.heartbeat)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [(UsageError("no such run"), 2, "no such run"), (KeyError("x"), 1, "KeyError: 'x'")],
)
def test_a_beacon_tells_what_ended_its_worker(tmp_path, error, code, reason):
    path = tmp_path / "h1.json"
    with pytest.raises(type(error)), beacon(path, 60.0):
        raise error
    last = read_worker(path)
    assert (last.exit_code, last.reason) == (code, reason)
    with pytest.raises(UsageError, match="another worker's record"), beacon(path, 60.0):
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
            assert [told(signal_script(each, "KILL")) for each in others] == ["gone", "gone"]
            assert process.poll() is None
            assert told(signal_script(owner, "")) == "running"
            assert told(signal_script(owner, "KILL")) == "signalled"
            assert process.wait(60) == -9
            assert told(signal_script(owner, "KILL")) == "gone"
        finally:
            process.kill()


def told(script: str) -> str:
    words = f"tell() {{ printf '%s' \"$1\"; }}\n{script}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=True)
    return done.stdout
