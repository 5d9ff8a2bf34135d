"""GPUs that other processes use: waited for, skipped or used, by a fake nvidia-smi on PATH."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.executors import run_here
from support.sweeps import LEAVE_RESULT, make_sweep, shell

from merge.errors import GpusInUseError
from orchestrator.local.events import Notice, RunStarted
from orchestrator.machine.devices import Devices
from orchestrator.machine.gpus_in_use import free_gpus, uses_of_others

NVIDIA_SMI = """\
#!/bin/sh
here=${0%/*}
case "$1" in
  -L) echo "GPU 0: H100 (UUID: GPU-aaaa)"; echo "GPU 1: H100 (UUID: GPU-bbbb)";;
  --query-gpu=index,uuid) echo "0, GPU-aaaa"; echo "1, GPU-bbbb";;
  --query-gpu=index,memory.used,memory.total) cat "$here/memory";;
  --query-compute-apps=*) [ ! -e "$here/broken" ] || exit 9; cat "$here/processes";;
  *) exit 9;;
esac
"""
IDLE = "0, 4, 81559\n1, 4, 81559\n"
GPUS = Devices(kind="cuda", slots=("0", "1"))


class FakeGpus:
    """What nvidia-smi says of two GPUs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.say("", IDLE)

    def say(self, processes: str, memory: str = IDLE) -> None:
        (self.folder / "processes").write_text(processes)
        (self.folder / "memory").write_text(memory)


@pytest.fixture
def gpus(tmp_path, monkeypatch) -> FakeGpus:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return FakeGpus(folder)


@pytest.mark.parametrize(
    ("processes", "memory", "uses"),
    [
        ("", IDLE, {}),
        ("GPU-bbbb, 4321\nGPU-bbbb, 5\n", IDLE, {"1": "process 4321"}),
        ("GPU-aaaa, [N/A]\n", IDLE, {"0": "another process"}),
        # A container sees no process of others, only their memory; a desktop takes little.
        (
            "",
            "0, 1500, 81559\n1, 60000, 81559\n",
            {"1": "others: 58.6 GiB of its 79.6 GiB are taken"},
        ),
        ("", "0, [N/A], [N/A]\n", {}),
    ],
)
def test_processes_and_taken_memory_are_uses_of_others(gpus, processes, memory, uses):
    gpus.say(processes, memory)
    assert uses_of_others(("0", "1")) == (uses, "")


def test_gpus_in_use_are_skipped_and_named(gpus):
    gpus.say("GPU-bbbb, 4321\n")
    devices = free_gpus(GPUS)
    assert devices.slots == ("0",)
    assert devices.notes == ("left out: GPU 1 is in use by process 4321",)
    gpus.say("GPU-bbbb, 4321\nGPU-aaaa, 1\n")
    with pytest.raises(
        GpusInUseError, match=r"GPU 1 is in use by process 4321.*--gpus-in-use wait"
    ):
        free_gpus(GPUS)


def run_on_gpus(output: Path, *, waits: bool, ends_use: str = ":") -> tuple[list[str], list[str]]:
    """The GPUs on which two runs started, in order, and the notices."""
    sweep = make_sweep(shell(f"{ends_use}; sleep 0.2;" + LEAVE_RESULT), folds=2)
    events: list[object] = []
    report = run_here(sweep, output, events=events, devices=GPUS, waits_for_gpus=waits)
    assert report.exit_code == 0
    started = [",".join(each.devices) for each in events if isinstance(each, RunStarted)]
    return started, [each.message for each in events if isinstance(each, Notice)]


def test_a_run_starts_only_where_no_other_process_computes(gpus, tmp_path):
    gpus.say("GPU-aaaa, 4321\n")
    assert run_on_gpus(tmp_path / "waits", waits=True)[0] == ["1", "1"]
    assert run_on_gpus(tmp_path / "uses", waits=False)[0] == ["0", "1"]


def test_gpus_that_become_free_are_used(gpus, tmp_path, monkeypatch):
    """Both are in use at first; what the fake says changes with the third look."""
    monkeypatch.setattr("orchestrator.local.free_devices._FIRST_WAIT_S", 0.1)
    gpus.say("GPU-aaaa, 4321\nGPU-bbbb, 4321\n")
    counting = NVIDIA_SMI.replace(
        'cat "$here/processes"',
        ('echo x >> "$here/looks"; [ $(wc -l < "$here/looks") -gt 2 ] || cat "$here/processes"'),
    )
    (gpus.folder / "nvidia-smi").write_text(counting)
    started, notices = run_on_gpus(tmp_path / "out", waits=True)
    assert sorted(started) == ["0", "1"]
    assert [note for note in notices if "GPU 0 is in use by process 4321: waiting for it" in note]


def test_without_an_answer_the_gpus_are_used_and_that_is_said(gpus, tmp_path):
    (gpus.folder / "broken").touch()
    started, notices = run_on_gpus(tmp_path / "out", waits=True)
    assert started == ["0", "1"]
    assert sum("whether other processes use the GPUs is not known" in note for note in notices) == 1
