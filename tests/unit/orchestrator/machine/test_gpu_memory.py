"""Several runs on one GPU: what is free against what a run needs, with the figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.sweeps import make_sweep

from merge.errors import UsageError
from merge.records.result import Result
from merge.records.sweep import Run
from orchestrator.machine.device_slots import Slots
from orchestrator.machine.devices import Devices
from orchestrator.machine.gpu_memory import check_runs_fit

GPUS = Devices(kind="cuda", slots=("0", "1"))


def runs_needing(gpu_mem_gb: float | None) -> tuple[Run, ...]:
    return make_sweep(["true"], gpu_mem_gb=gpu_mem_gb).runs


def result_with(details: dict[str, object]) -> Result:
    return Result(
        run_id="r",
        config_hash="h",
        axes={},
        metrics={"score": 0.0},
        attempt=1,
        token="t",
        started=0.0,
        finished=1.0,
        details=details,
    )


PEAK = result_with({"peak_memory_mb": {"host": 900.0, "device": 5120.0}})


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch):
    """Puts an nvidia-smi on PATH that reports so many MiB free, by GPU."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(*free: object) -> None:
        program = tmp_path / "nvidia-smi"
        lines = "".join(f"echo '{index}, {mib}'\n" for index, mib in enumerate(free))
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --query-gpu=index,memory.free ] || exit 9\n{lines}'
        )
        program.chmod(0o755)

    return make


def test_runs_that_fit_are_reported_with_their_sizes(nvidia_smi):
    nvidia_smi(40960, 30720)
    text = check_runs_fit(GPUS, runs_needing(10), 3, ())
    assert (
        text == "3 runs share a GPU: 10.0 GiB each (resources.gpu_mem_gb), at least 30.0 GiB free"
    )


@pytest.mark.parametrize(
    ("need", "results", "free", "words"),
    [
        (14, (), (49152, 30720), r"GPU 1 has 30\.0 GiB free, 3 runs of 14\.0 GiB .* at most 2 fit"),
        (None, (PEAK,), (16384, 16384), r"3 runs of 6\.6 GiB \(measured.*19\.8 GiB: at most 2 fit"),
        (None, (), (40960, 40960), "not known: set `resources: {gpu_mem_gb"),
        (None, (result_with({}),), (40960, 40960), "let one run finish on a GPU first"),
        (1, (), (40960, "[N/A]"), "reports no free memory for 1"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_sizes(nvidia_smi, need, results, free, words):
    nvidia_smi(*free)
    with pytest.raises(UsageError, match=words):
        check_runs_fit(GPUS, runs_needing(need), 3, results)


def test_cpu_slots_are_shared_in_another_way():
    with pytest.raises(UsageError, match="--devices cpu:N"):
        check_runs_fit(Devices(kind="cpu", slots=("cpu0",)), runs_needing(1), 2, ())


def test_the_emptiest_device_comes_first_and_no_device_twice():
    slots = Slots(("0", "1"), 2)
    assert [slots.take(1) for _ in range(5)] == [("0",), ("1",), ("0",), ("1",), None]
    slots.give_back(("1",))
    assert slots.take(2) is None
    slots.give_back(("0",))
    assert slots.take(2) == ("0", "1")
