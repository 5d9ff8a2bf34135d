"""Devices: what nvidia-smi lists, what a person asked for, what a study needs."""

from __future__ import annotations

import os

import pytest
from support.sweeps import make_sweep

from merge.errors import UsageError
from merge.records.sweep import Run
from orchestrator.machine.devices import Devices, find_devices, visible_gpus
from orchestrator.machine.nvidia_smi import Gpu, parse_listing

FOUR_GPUS = "".join(f"GPU {n}: NVIDIA A100 (UUID: GPU-{n}{n}{n}{n}-abcd)\n" for n in range(4))
SLICED = """GPU 0: NVIDIA H200 (UUID: GPU-0000-abcd)
  MIG 1g.18gb     Device  0: (UUID: MIG-aaaa)
  MIG 1g.18gb     Device  1: (UUID: MIG-bbbb)
GPU 1: NVIDIA H200 (UUID: GPU-1111-abcd)
"""


def needing(device: str = "auto", devices_per_run: int = 1) -> tuple[Run, ...]:
    return make_sweep(["true"], device=device, devices_per_run=devices_per_run).runs


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this machine one on which `nvidia-smi` prints `listing`, or has none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def make(listing: str | None, *, visible: str | None = None, exit_code: int = 0) -> None:
        if listing is not None:
            (tmp_path / "listing").write_text(listing)
            program = tmp_path / "nvidia-smi"
            program.write_text(
                f'#!/bin/sh\n[ "$1" = -L ] || exit 9\n'
                f'while read -r line; do echo "$line"; done < {tmp_path}/listing\n'
                f"exit {exit_code}\n"
            )
            program.chmod(0o755)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return make


def cores() -> tuple[str, ...]:
    return tuple(f"cpu{n}" for n in range(len(os.sched_getaffinity(0))))


@pytest.mark.parametrize(
    ("listing", "visible", "request_", "kind", "slots"),
    [
        (FOUR_GPUS, None, None, "cuda", ("0", "1", "2", "3")),
        (FOUR_GPUS, "2,3", None, "cuda", ("2", "3")),
        (FOUR_GPUS, "GPU-3333", None, "cuda", ("3",)),
        (FOUR_GPUS, "1,9,2", None, "cuda", ("1",)),
        (FOUR_GPUS, None, "3,0", "cuda", ("3", "0")),
        (FOUR_GPUS, None, "cuda", "cuda", ("0", "1", "2", "3")),
        (FOUR_GPUS, "2,3", "cuda", "cuda", ("2", "3")),
        (FOUR_GPUS, "2,3", "3", "cuda", ("3",)),
        (FOUR_GPUS, None, "GPU-1111-abcd", "cuda", ("1",)),
        (SLICED, None, None, "cuda", ("MIG-aaaa", "MIG-bbbb", "1")),
        (SLICED, None, "MIG-bbbb", "cuda", ("MIG-bbbb",)),
        (FOUR_GPUS, None, "cpu:3", "cpu", ("cpu0", "cpu1", "cpu2")),
        (FOUR_GPUS, None, "cpu", "cpu", cores()),
        (FOUR_GPUS, "", None, "cpu", cores()),
        (FOUR_GPUS, "-1", None, "cpu", cores()),
        (None, None, None, "cpu", cores()),
        ("", None, None, "cpu", cores()),
    ],
)
def test_devices_are_those_asked_for_else_those_there_are(
    machine, listing, visible, request_, kind, slots
):
    machine(listing, visible=visible)
    devices = find_devices(request_, needing())
    assert (devices.kind, devices.slots) == (kind, slots)


def test_a_machine_without_gpu_says_why_cpu_slots_are_used(machine):
    machine("NVIDIA-SMI has failed: driver mismatch\n", exit_code=9)
    devices = find_devices(None, needing())
    assert devices.kind == "cpu"
    assert any("driver mismatch" in note for note in devices.notes)


@pytest.mark.parametrize(
    ("listing", "exit_code", "words"),
    [(None, 0, "there is no nvidia-smi"), ("Driver/library mismatch\n", 18, "mismatch")],
)
def test_gpus_that_cannot_be_listed_are_no_reason_for_a_cpu_run(
    machine, tmp_path, monkeypatch, listing, exit_code, words
):
    """As in a container that has the GPUs, but not the driver's tools."""
    machine(listing, exit_code=exit_code)
    monkeypatch.setattr("orchestrator.machine.devices._DEV", tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert find_devices(None, needing()).kind == "cpu"
    (tmp_path / "nvidia0").touch()
    with pytest.raises(UsageError, match=f"nvidia0.*{words}.*--devices cpu"):
        find_devices(None, needing())
    assert find_devices("cpu:1", needing()).kind == "cpu"
    assert find_devices(None, needing("cpu")).kind == "cpu"


@pytest.mark.parametrize("listing", [None, ""])
def test_all_gpus_of_a_machine_without_one_are_refused(machine, listing):
    """As `--device cuda` asks: never a quiet CPU run."""
    machine(listing)
    with pytest.raises(UsageError, match=r"--devices cuda: no GPU here.*--devices cpu"):
        find_devices("cuda", needing())


def test_where_cuda_stops_reading_the_variable_is_said(machine):
    machine(FOUR_GPUS, visible="1,9,2")
    (note,) = find_devices(None, needing()).notes
    assert "CUDA_VISIBLE_DEVICES is '1,9,2': '9' names no GPU here" in note


def test_a_study_for_cpu_takes_cpu_slots_where_there_are_gpus(machine):
    machine(FOUR_GPUS)
    assert find_devices(None, needing("cpu")).kind == "cpu"


@pytest.mark.parametrize(
    ("listing", "visible", "request_", "runs", "words"),
    [
        (None, None, "0", needing(), "no GPU '0' here: there is no nvidia-smi.*--devices cpu"),
        (FOUR_GPUS, None, "0,7", needing(), "no GPU '7' here.*available: 0, 1, 2, 3"),
        (FOUR_GPUS, "2,3", "0", needing(), "CUDA_VISIBLE_DEVICES is '2,3'.*available: 2, 3"),
        (FOUR_GPUS, None, "1,1", needing(), "appears twice"),
        (FOUR_GPUS, None, "GPU-", needing(), "no GPU 'GPU-' here"),
        (FOUR_GPUS, None, "0,,1", needing(), "no GPU '' here"),
        (FOUR_GPUS, None, "cpu:0", needing(), "--devices cpu:0: write cpu, or cpu:8 for eight"),
        (FOUR_GPUS, None, "cpu:99999999999", needing(), "the limit of one machine is 4096"),
        (
            FOUR_GPUS,
            None,
            "cpu",
            needing(devices_per_run=10**20),
            "the limit of one machine is 4096",
        ),
        (FOUR_GPUS, None, "", needing(), "no GPU ''"),
        (None, None, None, needing("cuda"), "needs a GPU.*no nvidia-smi.*--devices"),
        (FOUR_GPUS, None, "cpu", needing("cuda"), "needs a GPU.*--devices"),
        (FOUR_GPUS, None, "0,1", needing(devices_per_run=3), "needs 3 devices.*there are only 2"),
        # Never a CPU run that was not asked for.
        (FOUR_GPUS, "1,1", None, needing(), "CUDA_VISIBLE_DEVICES is '1,1': name each GPU once"),
        (FOUR_GPUS, "1,GPU-1111", None, needing(), "name each GPU once"),
        (FOUR_GPUS, "all", None, needing(), "is 'all', but 'all' names none of 0, 1, 2, 3: corr"),
        (FOUR_GPUS, "9", None, needing(), "'9' names none of 0, 1, 2, 3.*--devices cpu"),
        (SLICED, "0", None, needing(), "'0' names none of MIG-aaaa, MIG-bbbb, 1: correct"),
        (None, "0", None, needing(), "is '0', but there is no nvidia-smi on this.*--devices cpu"),
        ("", "0,1", None, needing(), "is '0,1', but nvidia-smi lists no GPU"),
        (SLICED, None, None, needing(devices_per_run=2), "only one MIG instance .MIG-aaaa.: name"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_fix(
    machine, listing, visible, request_, runs, words
):
    machine(listing, visible=visible)
    with pytest.raises(UsageError, match=words):
        find_devices(request_, runs)


def test_cpu_slots_stretch_to_fit_one_run_and_say_so(machine):
    machine(None)
    devices = find_devices("cpu:1", needing(devices_per_run=3))
    assert devices == Devices(
        kind="cpu",
        slots=("cpu0", "cpu1", "cpu2"),
        notes=("3 processes per run share 1 CPU slots: the run will be slow",),
    )


def test_a_sliced_gpu_is_its_slices():
    assert parse_listing(SLICED) == (
        Gpu("MIG-aaaa", "MIG-aaaa"),
        Gpu("MIG-bbbb", "MIG-bbbb"),
        Gpu("1", "GPU-1111-abcd"),
    )


def test_an_ambiguous_uuid_names_no_gpu():
    gpus = (Gpu("0", "GPU-1a"), Gpu("1", "GPU-1b"))
    assert visible_gpus(gpus, "GPU-1") == ()
    assert visible_gpus(gpus, "GPU-1b, 0") == (gpus[1], gpus[0])
