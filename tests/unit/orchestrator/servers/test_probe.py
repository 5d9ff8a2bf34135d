"""What a server reports when it is checked."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from orchestrator.machine.owners import this_owner
from orchestrator.servers.probe import probe
from orchestrator.servers.probe_protocol import ProbeRequest
from orchestrator.servers.versions import control_digest

NVIDIA_SMI = """\
#!/bin/sh
case "$1" in
  -L) echo "GPU 0: H100 (UUID: GPU-aaaa)"; echo "GPU 1: H100 (UUID: GPU-bbbb)";;
  --query-gpu=*) echo "0, GPU-aaaa"; echo "1, GPU-bbbb";;
  --query-compute-apps=*) echo "GPU-bbbb, 4321";;
esac
"""


@pytest.fixture
def output(tmp_path):
    folder = tmp_path / "out"
    (folder / ".probe-x").mkdir(parents=True)
    (folder / ".probe-x" / "here").write_text("nonce")
    return folder


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """A machine with two GPUs; a process of another person computes on the second."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def request(shared, **fields) -> ProbeRequest:
    need = {
        **{"run_id": "r", "device": "auto", "devices_per_run": 1},
        **{"num_workers": 0, "launcher": "none"},
    }
    values = {
        **{"mark": "m", "output": str(shared), "probe": ".probe-x", "nonce": "nonce"},
        **{"server": "h1", "command": ["true"], "needs": [need], "devices": "cpu:1"},
        **{"allow_busy": False, "data_root": None, "cache_dir": None, "weights": None},
        **{"min_free_gb": 0.0, "share_timeout_s": 0},
    }
    return ProbeRequest(**{**values, **fields})


def test_a_server_that_can_work_identifies_itself_and_writes_back(output):
    result = probe(request(output))
    assert result.problems == []
    assert (result.host, result.boot_id) == (this_owner().host, this_owner().boot_id)
    assert result.control == control_digest()
    assert (output / ".probe-x" / "h1").read_text() == result.nonce


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"nonce": "another"}, "is not the shared output folder"),
        ({"output": "/no/such"}, "is not the shared output folder"),
        ({"data_root": "/no/such"}, "no data: there is no folder /no/such"),
        ({"weights": "/no/such"}, "no weights: there is no /no/such"),
        ({"min_free_gb": 1e9}, "but `min_free_gb` requires"),
        ({"devices": "2"}, "--devices: no GPU '2' here"),
    ],
)
def test_each_reason_not_to_start_comes_with_its_fix(output, fields, told):
    problems = probe(request(output, **fields)).problems
    assert len(problems) == 1
    assert told in problems[0]


@pytest.mark.parametrize(
    ("fields", "problems"),
    [
        ({"devices": "0"}, 0),
        ({"devices": "1"}, 1),
        ({"devices": None}, 1),
        ({"devices": None, "allow_busy": True}, 0),
        ({"devices": "GPU-bbbb"}, 1),
    ],
)
def test_a_gpu_in_use_by_another_process_is_refused_unless_allowed(
    output, two_gpus, fields, problems
):
    result = probe(request(output, **fields))
    assert len(result.problems) == problems
    assert all("GPU 1 is in use by process 4321" in problem for problem in result.problems)


def test_the_module_started_by_name_prints_one_marked_line(output):
    words = [
        sys.executable,
        "-m",
        "orchestrator.servers.probe",
        request(output).to_text(),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    mark, _, rest = done.stdout.partition(" ")
    assert mark == "m"
    assert json.loads(rest)["problems"] == []
    assert done.stdout.count("\n") == 1


def test_nothing_is_written_where_the_folder_is_not_shared(output):
    probe(request(output, nonce="another"))
    assert [path.name for path in (output / ".probe-x").iterdir()] == ["here"]


@pytest.mark.parametrize("failing", ["--query-gpu=*", "--query-compute-apps=*"])
def test_no_answer_about_processes_does_not_mean_that_the_gpus_are_free(
    output, two_gpus, tmp_path, failing
):
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text(NVIDIA_SMI.replace('case "$1" in', f'case "$1" in\n  {failing}) exit 9;;'))
    (problem,) = probe(request(output, devices="0")).problems
    assert "is not known: nvidia-smi failed" in problem
    assert probe(request(output, devices="0", allow_busy=True)).problems == []


def test_a_process_whose_id_is_hidden_uses_its_gpu_all_the_same(output, two_gpus, tmp_path):
    program = tmp_path / "bin" / "nvidia-smi"
    program.write_text(NVIDIA_SMI.replace("4321", "[N/A]"))
    (problem,) = probe(request(output, devices="1")).problems
    assert "GPU 1 is in use by another process" in problem
