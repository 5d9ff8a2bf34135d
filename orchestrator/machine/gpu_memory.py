"""Whether several runs fit into the memory of one GPU (`--runs-per-gpu`)."""

from __future__ import annotations

from collections.abc import Sequence

from merge.errors import UsageError
from merge.records.result import Result
from merge.records.sweep import Run
from merge.wording import size_text
from orchestrator.machine.devices import Devices
from orchestrator.machine.nvidia_smi import free_memory

_GIB = 2**30
_MARGIN = 1.2
"""A trainer reports its peak of allocated bytes; fragments of the allocator come on top."""
_CUDA_CONTEXT_GIB = 0.6
"""What a process holds on a GPU beside its tensors: CUDA context, cuDNN and cuBLAS work space."""


def check_runs_fit(
    devices: Devices, runs: Sequence[Run], runs_per_gpu: int, results: Sequence[Result]
) -> str:
    """How `runs_per_gpu` runs fit on each of `devices`, as text. UsageError where they do not.

    A run needs its `gpu_mem_gb`, else the largest peak among earlier `results` plus a margin.
    """
    if devices.kind != "cuda":
        raise UsageError("--runs-per-gpu is for GPUs: give CPU slots with --devices cpu:N")
    need, source = _memory_of_one_run(runs, results)
    free = free_memory()
    for name in devices.slots:
        _check_device(name, free.get(name), need, runs_per_gpu, source)
    least = min(free[name] for name in devices.slots)
    return (
        f"{runs_per_gpu} runs share a GPU: {size_text(need)} each ({source}), "
        f"at least {size_text(least)} free"
    )


def _check_device(name: str, free: int | None, need: float, runs_per_gpu: int, source: str) -> None:
    if free is None:
        raise UsageError(
            f"--runs-per-gpu: nvidia-smi reports no free memory for {name}: "
            f"use whole GPUs (no MIG slices), or leave the flag out"
        )
    if runs_per_gpu * need > free:
        raise UsageError(
            f"--runs-per-gpu {runs_per_gpu}: GPU {name} has {size_text(free)} free, "
            f"{runs_per_gpu} runs of {size_text(need)} ({source}) need "
            f"{size_text(runs_per_gpu * need)}: at most {int(free / need)} fit"
        )


def _memory_of_one_run(runs: Sequence[Run], results: Sequence[Result]) -> tuple[float, str]:
    """Bytes that the largest of `runs` needs, and where this number comes from."""
    declared = [run.resources.gpu_mem_gb for run in runs]
    if all(declared):
        return max(need for need in declared if need) * _GIB, "resources.gpu_mem_gb"
    peaks = [peak for result in results if (peak := _peak_mib(result))]
    if not peaks:
        raise UsageError(
            "--runs-per-gpu: what a run needs is not known: set `resources: {gpu_mem_gb: ..}` in "
            "the study, or let one run finish on a GPU first"
        )
    measured = max(peaks) / 1024 * _MARGIN + _CUDA_CONTEXT_GIB
    needed = max(measured, *(need or 0.0 for need in declared))
    return needed * _GIB, "measured, with a margin"


def _peak_mib(result: Result) -> float:
    peaks = result.details.get("peak_memory_mb")
    peak = peaks.get("device") if isinstance(peaks, dict) else None
    return float(peak) if isinstance(peak, int | float) else 0.0
