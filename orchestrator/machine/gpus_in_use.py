"""Which GPUs other processes use: what computes there, and how much of their memory is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from merge.errors import GpusInUseError
from merge.wording import size_text
from orchestrator.machine.devices import Devices
from orchestrator.machine.nvidia_smi import compute_processes, gpu_numbers, used_memory

_IDLE_SHARE, _IDLE_BYTES = 0.1, 2 << 30
"""What a desktop, a driver or a monitor may hold of a GPU that no process computes on."""


def foreign_processes(names: Sequence[str]) -> tuple[list[tuple[str, str]], str]:
    """(device, its user) of every process on one of `names`; and why nothing is known."""
    numbers, no_numbers = gpu_numbers()
    processes, no_processes = compute_processes()
    # No answer does not mean that no process computes there.
    if problem := no_numbers or no_processes:
        return [], problem
    found = []
    for process in processes:
        uuid = process.gpu_uuid
        name = uuid if uuid in names else numbers.get(uuid, uuid)
        user = "another process" if process.pid is None else f"process {process.pid}"
        found += [(name, user)] if name in names else []
    return found, ""


def uses_of_others(names: Sequence[str]) -> tuple[dict[str, str], str]:
    """Device -> what uses it, for those of `names` that are in use; and why nothing is known.

    A container does not see the processes of others, but it sees the memory that they hold.
    """
    found, problem = foreign_processes(names)
    uses = dict(reversed(found))
    for name, (used, total) in used_memory().items():
        if name in names and used > max(_IDLE_BYTES, _IDLE_SHARE * total):
            uses.setdefault(name, f"others: {size_text(used)} of its {size_text(total)} are taken")
    return uses, "" if uses else problem


def free_gpus(devices: Devices) -> Devices:
    """`devices` without those that others use. GpusInUseError where none is left."""
    uses, problem = uses_of_others(devices.slots) if devices.kind == "cuda" else ({}, "")
    left = tuple(name for name in devices.slots if name not in uses)
    if not left:
        raise GpusInUseError(
            f"all GPUs are in use: {users_text(uses)}; wait for them with --gpus-in-use wait, or "
            f"share them with --gpus-in-use use"
        )
    notes = [f"left out: {users_text(uses)}"] if uses else []
    notes += [unknown_text(problem)] if problem else []
    return replace(devices, slots=left, notes=(*devices.notes, *notes))


def users_text(uses: dict[str, str]) -> str:
    """`GPU 0 by process 12, GPU 1 by another process`."""
    return ", ".join(f"GPU {name} is in use by {user}" for name, user in uses.items())


def unknown_text(problem: str) -> str:
    """That it is not known who uses the GPUs."""
    return f"whether other processes use the GPUs is not known, so they are used: {problem}"
