"""nvidia-smi: only what can be parsed counts, and a hanging one is not waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.machine import nvidia_smi
from orchestrator.machine.environment import describe_environment
from orchestrator.machine.nvidia_smi import Gpu, GpuProcess

Install = Callable[[str], None]

DRIVER_FAILED = "echo 'NVIDIA-SMI has failed' >&2; exit 9"
NO_DEVICES = "echo 'No devices were found'"
HANGS = "/bin/sleep 600"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts an nvidia-smi with this shell text on PATH, alone."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(text: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    return make


def prints(*lines: str) -> str:
    return "\n".join(f"echo '{line}'" for line in lines)


def test_memory_is_in_bytes_and_a_gpu_without_a_number_is_left_out(install):
    install(prints("0, 1024", "1, [N/A]", "2, [Not Supported]", "3", "4, 5, 6", ""))
    assert nvidia_smi.free_memory() == {"0": 1024 * 2**20}


def test_processes_are_known_by_gpu_and_a_hidden_pid_is_none(install):
    install(
        prints(
            "GPU-aaaa, 41", "GPU-bbbb, [N/A]", "MIG-cccc, 43", "[N/A], 44", "[Not Supported]", "x"
        )
    )
    assert nvidia_smi.compute_processes() == (
        [GpuProcess("GPU-aaaa", 41), GpuProcess("GPU-bbbb", None), GpuProcess("MIG-cccc", 43)],
        "",
    )


def test_a_gpu_without_a_number_has_no_name(install):
    install(prints("0, GPU-aaaa", "[GPU is lost], GPU-bbbb"))
    assert nvidia_smi.gpu_numbers() == ({"GPU-aaaa": "0"}, "")


def test_what_nvidia_smi_does_not_know_stays_out_of_an_attempt_s_record(install, tmp_path):
    install(prints("0, NVIDIA H100, 550.54", "1, [Unknown Error], 550.54", "2, [N/A], [N/A]"))
    described = describe_environment(tmp_path, {}, has_gpus=True)
    assert described["gpus"] == [
        {"gpu": "0", "name": "NVIDIA H100", "driver": "550.54"},
        {"gpu": "1", "driver": "550.54"},
        {"gpu": "2"},
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (DRIVER_FAILED, "nvidia-smi failed: NVIDIA-SMI has failed"),
        (NO_DEVICES, ""),
        ("", ""),
    ],
)
def test_output_that_holds_no_rows_gives_none(install, text, problem):
    install(text)
    assert nvidia_smi.list_devices() == ((), problem or "nvidia-smi lists no GPU")
    assert nvidia_smi.compute_processes() == ([], problem)
    assert nvidia_smi.gpu_numbers() == ({}, problem)
    assert nvidia_smi.free_memory() == {}
    assert nvidia_smi.describe_gpus() == []


def test_bytes_that_are_no_text_are_read_all_the_same(install):
    install(r"printf 'GPU 0: A\377 (UUID: GPU-0000)\n'")
    assert nvidia_smi.list_devices() == ((Gpu("0", "GPU-0000"),), "")


def test_a_hanging_nvidia_smi_is_given_up_after_its_time_out(install, monkeypatch):
    monkeypatch.setattr(nvidia_smi, "_TIMEOUT_S", 0.2)
    install(HANGS)
    began = time.monotonic()
    assert nvidia_smi.list_devices() == ((), "nvidia-smi gave no answer in 0.2 s")
    assert nvidia_smi.compute_processes() == ([], "nvidia-smi gave no answer in 0.2 s")
    assert time.monotonic() - began < 30


def test_a_machine_without_nvidia_smi_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_smi.list_devices() == ((), "there is no nvidia-smi on this machine")
    (tmp_path / "nvidia-smi").mkdir()
    assert "nvidia-smi cannot be started" in nvidia_smi.list_devices()[1]
