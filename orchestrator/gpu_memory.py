"""Whether several runs fit on one GPU: what nvidia-smi says is free against what a run needs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from merge.errors import UsageError
from merge.records import Result
from merge.sweep import Run
from orchestrator.devices import Devices

_PATIENCE_S = 60.0
_MARGIN = 1.2
"""The allocator's fragments come on top of what a run was measured to hold."""
_CONTEXT_GB = 0.6
"""What a process holds on a GPU beside its tensors."""


def check_shared(
    devices: Devices, runs: Sequence[Run], runs_per_gpu: int, results: Sequence[Result]
) -> str:
    """How `runs_per_gpu` runs fit on each of `devices`, in words. UsageError where they do not.

    A run needs its `gpu_mem_gb`, else what the largest of the earlier `results` held at its peak.
    """
    if devices.kind != "cuda":
        raise UsageError("--runs-per-gpu is for GPUs: give CPU slots with --devices cpu:N")
    need_gb, source = _need(runs, results)
    free_gb = free_memory()
    for name in devices.slots:
        if name not in free_gb:
            raise UsageError(
                f"--runs-per-gpu: nvidia-smi does not tell the free memory of {name}: "
                f"use whole GPUs, or leave the flag out"
            )
        if runs_per_gpu * need_gb > free_gb[name]:
            fitting = int(free_gb[name] / need_gb)
            raise UsageError(
                f"--runs-per-gpu {runs_per_gpu}: GPU {name} has {free_gb[name]:.1f} GB free, "
                f"{runs_per_gpu} runs of {need_gb:.1f} GB ({source}) need "
                f"{runs_per_gpu * need_gb:.1f} GB: at most {fitting} fit"
            )
    least = min(free_gb[name] for name in devices.slots)
    return (
        f"{runs_per_gpu} runs share a GPU: {need_gb:.1f} GB each ({source}), "
        f"at least {least:.1f} GB free"
    )


def free_memory() -> Mapping[str, float]:
    """Free GB (2**30 bytes) by GPU number, as nvidia-smi names them; empty where it cannot tell."""
    words = ["nvidia-smi", "--query-gpu=index,memory.free", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(
            words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    rows = [line.split(",") for line in told.stdout.splitlines()] if not told.returncode else []
    return {
        row[0].strip(): int(row[1]) / 1024
        for row in rows
        if len(row) == 2 and row[1].strip().isdecimal()
    }


def _need(runs: Sequence[Run], results: Sequence[Result]) -> tuple[float, str]:
    """What the hungriest of `runs` needs, in GB, and where that is known from."""
    named = [run.resources.gpu_mem_gb for run in runs]
    if all(named):
        return max(need for need in named if need), "resources.gpu_mem_gb"
    peaks = [peak for result in results if (peak := _peak_mb(result))]
    if not peaks:
        raise UsageError(
            "--runs-per-gpu: what a run needs is not known: set `resources: {gpu_mem_gb: ..}` in "
            "the study, or let one run finish on a GPU first"
        )
    measured = max(peaks) / 1024 * _MARGIN + _CONTEXT_GB
    return max(measured, *(need or 0.0 for need in named)), "measured, with a margin"


def _peak_mb(result: Result) -> float:
    peaks = result.details.get("peak_memory_mb")
    peak = peaks.get("device") if isinstance(peaks, dict) else None
    return float(peak) if isinstance(peak, int | float) else 0.0
