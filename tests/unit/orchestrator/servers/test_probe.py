"""What a server says of itself when it is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from orchestrator.machine.owners import this_owner
from orchestrator.servers.probe import Question, answer, control_digest

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


def question(shared, **fields) -> Question:
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
    return Question(**{**values, **fields})


def test_a_server_that_can_work_says_who_it_is_and_writes_back(output):
    facts = answer(question(output))
    assert facts.problems == []
    assert (facts.host, facts.boot_id) == (this_owner().host, this_owner().boot_id)
    assert facts.control == control_digest()
    assert (output / ".probe-x" / "h1").read_text() == facts.nonce


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"nonce": "another"}, "is not the output folder"),
        ({"output": "/no/such"}, "is not the output folder"),
        ({"data_root": "/no/such"}, "no data: there is no folder /no/such"),
        ({"weights": "/no/such"}, "no weights: there is no /no/such"),
        ({"min_free_gb": 1e9}, "are asked for (`min_free_gb`)"),
        ({"devices": "2"}, "--devices: no GPU '2' here"),
    ],
)
def test_each_reason_not_to_start_is_told_with_its_fix(output, fields, told):
    problems = answer(question(output, **fields)).problems
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
def test_a_gpu_that_others_compute_on_is_refused_unless_allowed(output, two_gpus, fields, problems):
    facts = answer(question(output, **fields))
    assert len(facts.problems) == problems
    assert all("GPU 1 is in use by process 4321" in problem for problem in facts.problems)


def test_the_answer_comes_on_one_marked_line(output):
    words = [
        sys.executable,
        "-m",
        "orchestrator.servers.probe",
        json.dumps(asdict(question(output))),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    mark, _, rest = done.stdout.partition(" ")
    assert mark == "m"
    assert json.loads(rest)["problems"] == []
    assert done.stdout.count("\n") == 1


def test_nothing_is_written_where_the_folder_is_not_shared(output):
    answer(question(output, nonce="another"))
    assert [path.name for path in (output / ".probe-x").iterdir()] == ["here"]
