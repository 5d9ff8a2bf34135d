"""The devices that runs are scheduled over: GPUs as nvidia-smi names them, or CPU slots.

Without torch: the GPUs come from nvidia-smi, limited by the CUDA_VISIBLE_DEVICES of the caller.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from merge.errors import UsageError
from merge.records.sweep import DeviceKind, Run
from orchestrator.machine.nvidia_smi import Gpu, list_devices

_CPU_REQUEST = re.compile(r"cpu(?::([1-9]\d*))?")
_MAX_CPU_SLOTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What an executor may use at one time."""

    kind: DeviceKind
    slots: tuple[str, ...]
    """GPU numbers of nvidia-smi or MIG UUIDs; cpu0, cpu1, ... on a CPU."""
    notes: tuple[str, ...] = ()
    """Messages about the choice, for the terminal."""


def find_devices(request: str | None, runs: Sequence[Run]) -> Devices:
    """The devices for `runs`.

    `request`: GPU numbers or UUIDs with commas, `cpu` or `cpu:N`; None takes all GPUs, or one
    CPU slot per core on a machine without GPU. UsageError where the runs do not fit.
    """
    if request is not None and (match := _CPU_REQUEST.fullmatch(request)):
        devices = _cpu_slots(int(match[1]) if match[1] else None, runs)
    elif request is not None:
        devices = Devices(kind="cuda", slots=_requested_gpus(request, *list_gpus()))
    else:
        devices = _default_devices(runs)
    check_fit(devices, runs)
    return devices


def device_kind(run: Run, devices: Devices) -> DeviceKind:
    """What `run` computes on when it gets some of `devices`."""
    return devices.kind if run.resources.device == "auto" else run.resources.device


def check_fit(devices: Devices, runs: Sequence[Run]) -> None:
    """UsageError where one of `runs` needs more than all of `devices`."""
    for run in runs:
        if device_kind(run, devices) == "cuda" and devices.kind == "cpu":
            raise UsageError(
                f"{run.run_id} needs a GPU (device: cuda), but only CPU slots are available: "
                f"{_because(devices)}select GPUs with --devices, or set device: auto in the study"
            )
        if run.resources.devices_per_run > len(devices.slots):
            raise UsageError(
                f"{run.run_id} needs {run.resources.devices_per_run} devices at once, there are "
                f"only {len(devices.slots)} ({', '.join(devices.slots)}): select more with "
                f"--devices, or use fewer per run with --devices-per-run"
            )


def list_gpus() -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that CUDA would see here, and why there are none where there are none."""
    gpus, problem = list_devices()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not gpus or visible is None:
        return gpus, problem
    return visible_gpus(gpus, visible), f"CUDA_VISIBLE_DEVICES is {visible!r}"


def visible_gpus(gpus: Sequence[Gpu], visible: str) -> tuple[Gpu, ...]:
    """Those of `gpus` that CUDA_VISIBLE_DEVICES=`visible` allows, in its order.

    As in CUDA, the first entry that names no GPU ends the list: `0,9,1` allows only GPU 0.
    """
    # Numbers count as nvidia-smi's (PCI order), and runs start with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    # CUDA's own default, fastest first, differs from it where the GPUs of a host are not equal.
    chosen: list[Gpu] = []
    for word in visible.split(","):
        gpu = _find_gpu(gpus, word.strip())
        if gpu is None:
            break
        chosen.append(gpu)
    return tuple(chosen)


def num_usable_cores() -> int:
    """Cores that this process may use: in a SLURM job at most those of the job on this node."""
    cores = len(os.sched_getaffinity(0))
    # Without task/affinity or cgroup binding, a SLURM job sees all cores of its node.
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(cores, int(given)) if given.isdecimal() and int(given) > 0 else cores


def _default_devices(runs: Sequence[Run]) -> Devices:
    if all(run.resources.device == "cpu" for run in runs):
        return _cpu_slots(None, runs)
    gpus, reason = list_gpus()
    if gpus:
        return Devices(kind="cuda", slots=tuple(gpu.name for gpu in gpus))
    return _cpu_slots(None, runs, f"no GPU: {reason}")


def _requested_gpus(request: str, gpus: Sequence[Gpu], reason: str) -> tuple[str, ...]:
    slots: list[str] = []
    for word in (part.strip() for part in request.split(",")):
        gpu = _find_gpu(gpus, word)
        if gpu is None:
            raise UsageError(_no_such_gpu(word, gpus, reason))
        if gpu.name in slots:
            raise UsageError(f"--devices {request}: GPU {gpu.name} appears twice")
        slots.append(gpu.name)
    return tuple(slots)


def _no_such_gpu(word: str, gpus: Sequence[Gpu], reason: str) -> str:
    if word.startswith("cpu"):
        return f"--devices {word}: write cpu, or cpu:8 for eight CPU slots (at least 1)"
    if not gpus:
        return f"--devices: no GPU {word!r} here: {reason}; use --devices cpu for CPU slots"
    names = ", ".join(gpu.name for gpu in gpus)
    because = f" ({reason})" if reason else ""
    return f"--devices: no GPU {word!r} here{because}; available: {names}; or use --devices cpu"


def _find_gpu(gpus: Sequence[Gpu], word: str) -> Gpu | None:
    """The GPU with that number or UUID; a unique beginning of a UUID is enough, as in CUDA."""
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
        notes.append(
            f"{needed} processes per run share {num_slots} CPU slots: the run will be slow"
        )
        num_slots = needed
    if num_slots > _MAX_CPU_SLOTS:
        raise UsageError(f"{num_slots} CPU slots: the limit of one machine is {_MAX_CPU_SLOTS}")
    slots = tuple(f"cpu{index}" for index in range(num_slots))
    return Devices(kind="cpu", slots=slots, notes=tuple(notes))


def _because(devices: Devices) -> str:
    return "".join(f"{note}; " for note in devices.notes)
