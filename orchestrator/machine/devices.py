"""The devices that runs are scheduled over: GPUs as nvidia-smi names them, or CPU slots.

Without torch: the GPUs come from nvidia-smi, limited by the CUDA_VISIBLE_DEVICES of the caller.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.errors import UsageError
from merge.records.sweep import DeviceKind, Run
from orchestrator.machine.cores import num_usable_cores
from orchestrator.machine.nvidia_smi import Gpu, list_devices

_CPU_REQUEST = re.compile(r"cpu(?::([1-9]\d*))?")
_MAX_CPU_SLOTS = 4096
_DEV = Path("/dev")
_HIDES_ALL = ("", "-1", "none", "void", "nodevfiles")
"""First words of CUDA_VISIBLE_DEVICES with which a person or SLURM hides all GPUs on purpose."""


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

    `request`: GPU numbers or UUIDs with commas, `cuda` for all GPUs, `cpu` or `cpu:N`; None takes
    all GPUs, or one CPU slot per core on a machine without GPU. UsageError where the runs do not
    fit.
    """
    if request is not None and (match := _CPU_REQUEST.fullmatch(request)):
        devices = _cpu_slots(int(match[1]) if match[1] else None, runs)
    elif request == "cuda":
        devices = _all_gpus()
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
        if run.resources.devices_per_run > 1 and (slice_ := _first_slice(devices)):
            raise UsageError(
                f"{run.run_id} has {run.resources.devices_per_run} ranks, but CUDA gives a process "
                f"only one MIG instance ({slice_}): name whole GPUs with --devices, or use "
                f"--devices-per-run 1"
            )
        if run.resources.devices_per_run > len(devices.slots):
            raise UsageError(
                f"{run.run_id} needs {run.resources.devices_per_run} devices at once, there are "
                f"only {len(devices.slots)} ({', '.join(devices.slots)}): select more with "
                f"--devices, or use fewer per run with --devices-per-run"
            )


def _first_slice(devices: Devices) -> str | None:
    return next((name for name in devices.slots if name.startswith("MIG-")), None)


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


def _all_gpus() -> Devices:
    gpus, reason = list_gpus()
    if not gpus:
        raise UsageError(f"--devices cuda: no GPU here: {reason}; use --devices cpu for CPU slots")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    notes = () if visible is None else _check_visible(visible, gpus, reason)
    return Devices(kind="cuda", slots=tuple(gpu.name for gpu in gpus), notes=notes)


def _default_devices(runs: Sequence[Run]) -> Devices:
    if all(run.resources.device == "cpu" for run in runs):
        return _cpu_slots(None, runs)
    gpus, reason = list_gpus()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    notes = () if visible is None else _check_visible(visible, gpus, reason)
    if gpus:
        return Devices(kind="cuda", slots=tuple(gpu.name for gpu in gpus), notes=notes)
    if visible is None and (traces := _gpu_traces()):
        # No silent fallback: training on a CPU would take weeks.
        raise UsageError(
            f"this machine has GPUs ({traces[0]}), but {reason}: make nvidia-smi work (in a "
            f"container, start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility), or use "
            f"--devices cpu"
        )
    return _cpu_slots(None, runs, f"no GPU: {reason}")


def _check_visible(visible: str, gpus: Sequence[Gpu], reason: str) -> tuple[str, ...]:
    """Notes about CUDA_VISIBLE_DEVICES=`visible`, which leaves `gpus`. UsageError: unclear."""
    words = [word.strip() for word in visible.split(",")]
    if words[0].lower() in _HIDES_ALL:
        return ()
    names = [gpu.name for gpu in gpus]
    variable = f"CUDA_VISIBLE_DEVICES is {visible!r}"
    if not names:
        known, problem = list_devices()
        why = f"{words[0]!r} names none of {_names(known)}" if known else problem or reason
        raise UsageError(
            f"{variable}, but {why}: correct or unset the variable, or use --devices cpu"
        )
    if len(set(names)) < len(names):
        raise UsageError(f"{variable}: name each GPU once, CUDA takes a repeated one for none")
    left = words[len(names) :]
    return (f"{variable}: {left[0]!r} names no GPU here, CUDA stops reading there",) if left else ()


def _gpu_traces() -> list[str]:
    """Devices of NVIDIA's driver, which are there with or without nvidia-smi."""
    return sorted(str(path) for path in _DEV.glob("nvidia[0-9]*"))


def _names(gpus: Sequence[Gpu]) -> str:
    return ", ".join(gpu.name for gpu in gpus)


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
    names = _names(gpus)
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
