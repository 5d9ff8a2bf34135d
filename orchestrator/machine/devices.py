"""The devices that runs are scheduled over: GPUs as nvidia-smi names them, or CPU slots.

No torch: nvidia-smi is asked, and CUDA_VISIBLE_DEVICES of the person who started us is respected.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merge.errors import UsageError
from merge.records.result import Result
from merge.records.sweep import Run
from orchestrator.machine.launch import DeviceKind

_LISTED = re.compile(r"^\s*(?:GPU (?P<index>\d+):|MIG ).*\(UUID: (?P<uuid>[^)]+)\)", re.MULTILINE)
_CPU_REQUEST = re.compile(r"cpu(?::([1-9]\d*))?")
_PATIENCE_S = 60.0
_MOST_SLOTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What `run_local` may use at one time."""

    kind: DeviceKind
    slots: tuple[str, ...]
    """GPU numbers of nvidia-smi or MIG UUIDs; cpu0, cpu1, ... on a CPU."""
    notes: tuple[str, ...] = ()
    """What a person should be told about the choice."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device that CUDA can use: a GPU, or a MIG slice of one."""

    name: str
    """As CUDA_VISIBLE_DEVICES takes it."""
    uuid: str


def find_devices(request: str | None, runs: Sequence[Run]) -> Devices:
    """The devices for `runs`.

    `request`: GPU numbers or UUIDs with commas, `cpu` or `cpu:N`; None takes the GPUs there are,
    else one CPU slot per core. UsageError where the runs cannot be served.
    """
    if request is not None and (match := _CPU_REQUEST.fullmatch(request)):
        devices = _cpu_slots(int(match[1]) if match[1] else None, runs)
    elif request is not None:
        devices = Devices(kind="cuda", slots=_requested_gpus(request, *list_gpus()))
    else:
        devices = _devices_by_themselves(runs)
    check_fit(devices, runs)
    return devices


def device_kind(run: Run, devices: Devices) -> DeviceKind:
    """What `run` computes on when it is given some of `devices`."""
    return devices.kind if run.resources.device == "auto" else run.resources.device


def check_fit(devices: Devices, runs: Sequence[Run]) -> None:
    """UsageError where one of `runs` can never get what it needs of `devices`."""
    for run in runs:
        if device_kind(run, devices) == "cuda" and devices.kind == "cpu":
            raise UsageError(
                f"{run.run_id} needs a GPU (device: cuda) and was given CPU slots: "
                f"{_because(devices)}give GPUs with --devices, or set device: auto in the study"
            )
        if run.resources.devices_per_run > len(devices.slots):
            raise UsageError(
                f"{run.run_id} needs {run.resources.devices_per_run} devices at once, there are "
                f"{len(devices.slots)} ({', '.join(devices.slots)}): give more with --devices, or "
                f"fewer per run with --devices-per-run"
            )


def list_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that CUDA would see here, and why there are none where there are none."""
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except FileNotFoundError:
        return (), "there is no nvidia-smi on this machine"
    except subprocess.TimeoutExpired:
        return (), f"nvidia-smi gave no answer in {_PATIENCE_S:.0f} s"
    if listing.returncode != 0:
        return (), f"nvidia-smi failed: {(listing.stdout + listing.stderr).strip()}"
    gpus = parse_listing(listing.stdout)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus, "" if gpus else "nvidia-smi lists no GPU"
    return visible_gpus(gpus, visible), f"CUDA_VISIBLE_DEVICES is {visible!r}"


def parse_listing(text: str) -> tuple[Gpu, ...]:
    """The devices in the output of `nvidia-smi -L`; a GPU in slices (MIG) is its slices."""
    gpus: list[Gpu] = []
    sliced: set[str] = set()
    parent = ""
    for match in _LISTED.finditer(text):
        if match["index"] is not None:
            parent = match["index"]
            gpus.append(Gpu(parent, match["uuid"]))
        else:
            sliced.add(parent)
            gpus.append(Gpu(match["uuid"], match["uuid"]))
    return tuple(gpu for gpu in gpus if gpu.name not in sliced)


def visible_gpus(gpus: Sequence[Gpu], visible: str) -> tuple[Gpu, ...]:
    """Those of `gpus` that CUDA_VISIBLE_DEVICES=`visible` lets through, in its order.

    As CUDA does, all behind the first entry that names no GPU is left out.
    """
    chosen: list[Gpu] = []
    for word in visible.split(","):
        gpu = _named(gpus, word.strip())
        if gpu is None:
            break
        chosen.append(gpu)
    return tuple(chosen)


def num_usable_cores() -> int:
    """Cores that this process may use: in a SLURM job not more than the job was given here."""
    cores = len(os.sched_getaffinity(0))
    # Where SLURM binds no processes, all cores of the node seem to be ours.
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(cores, int(given)) if given.isdecimal() and int(given) > 0 else cores


def _devices_by_themselves(runs: Sequence[Run]) -> Devices:
    if all(run.resources.device == "cpu" for run in runs):
        return _cpu_slots(None, runs)
    gpus, reason = list_gpus()
    if gpus:
        return Devices(kind="cuda", slots=tuple(gpu.name for gpu in gpus))
    return _cpu_slots(None, runs, f"no GPU: {reason}")


def _requested_gpus(request: str, gpus: Sequence[Gpu], reason: str) -> tuple[str, ...]:
    slots: list[str] = []
    for word in (part.strip() for part in request.split(",")):
        gpu = _named(gpus, word)
        if gpu is None:
            raise UsageError(_no_such_gpu(word, gpus, reason))
        if gpu.name in slots:
            raise UsageError(f"--devices {request}: GPU {gpu.name} is named twice")
        slots.append(gpu.name)
    return tuple(slots)


def _no_such_gpu(word: str, gpus: Sequence[Gpu], reason: str) -> str:
    if not gpus:
        return f"--devices: no GPU {word!r} here, {reason}; use --devices cpu for CPU slots"
    names = ", ".join(gpu.name for gpu in gpus)
    because = f" ({reason})" if reason else ""
    return f"--devices: no GPU {word!r} here{because}; there are: {names}; or use --devices cpu"


def _named(gpus: Sequence[Gpu], word: str) -> Gpu | None:
    """The GPU of that number or UUID; a UUID may be cut short as far as it stays unique."""
    if word.isdigit():
        return next((gpu for gpu in gpus if gpu.name == word), None)
    found = [gpu for gpu in gpus if word and gpu.uuid.startswith(word)]
    return found[0] if len(found) == 1 else None


def _cpu_slots(count: int | None, runs: Sequence[Run], note: str = "") -> Devices:
    cores = num_usable_cores()
    needed = max((run.resources.devices_per_run for run in runs), default=1)
    num_slots = cores if count is None else count
    notes = [note] if note else []
    if num_slots < needed:
        notes.append(f"{needed} processes a run share {num_slots} CPU slots: expect it to be slow")
        num_slots = needed
    if num_slots > _MOST_SLOTS:
        raise UsageError(f"{num_slots} CPU slots: at most {_MOST_SLOTS} are made on one machine")
    slots = tuple(f"cpu{index}" for index in range(num_slots))
    return Devices(kind="cpu", slots=slots, notes=tuple(notes))


def _because(devices: Devices) -> str:
    return "".join(f"{note}; " for note in devices.notes)


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
