"""The only module that starts nvidia-smi and parses its output. Standard library only.

Every function returns only what it could parse: `[N/A]`, `[Not Supported]`, lines of another shape
and empty output give no value, never a wrong one. Where nvidia-smi itself gave no usable answer
(absent, failed, timed out), the second part of the return value says why.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass

_TIMEOUT_S = 60.0
"""Without persistence mode the first call loads the driver: many seconds on an 8-GPU host."""
_KILL_TIMEOUT_S = 1.0
_LISTED = re.compile(r"^\s*(?:GPU (?P<index>\d+):|MIG ).*\(UUID: (?P<uuid>[^)]+)\)", re.MULTILINE)
_UUID = re.compile(r"(?:GPU|MIG)-\S+")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device that CUDA can use: a GPU, or a MIG slice of one."""

    name: str
    """As CUDA_VISIBLE_DEVICES takes it: the number of a GPU, the UUID of a MIG slice."""
    uuid: str


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on a GPU."""

    gpu_uuid: str
    pid: int | None
    """None where nvidia-smi hides it, as in some containers."""


def list_devices() -> tuple[tuple[Gpu, ...], str]:
    """All GPUs and MIG slices of this machine, and why there are none where there are none."""
    output, problem = _run("-L")
    devices = parse_listing(output)
    return devices, problem or ("" if devices else "nvidia-smi lists no GPU")


def parse_listing(text: str) -> tuple[Gpu, ...]:
    """The devices in the output of `nvidia-smi -L`; a GPU divided by MIG is its slices."""
    gpus: list[Gpu] = []
    divided: set[str] = set()
    parent = ""
    for match in _LISTED.finditer(text):
        if match["index"] is not None:
            parent = match["index"]
            gpus.append(Gpu(parent, match["uuid"]))
        else:
            # CUDA cannot use the whole GPU while MIG is on: only the slices count.
            divided.add(parent)
            gpus.append(Gpu(match["uuid"], match["uuid"]))
    return tuple(gpu for gpu in gpus if gpu.name not in divided)


def free_memory() -> dict[str, int]:
    """Free bytes by GPU number; a GPU with MIG on reports none and is left out."""
    rows, _ = _query("gpu", "index", "memory.free")
    return {index: int(mib) << 20 for index, mib in rows if mib.isdecimal()}


def used_memory() -> dict[str, tuple[int, int]]:
    """Used and all bytes by GPU number; a GPU with MIG on reports none and is left out."""
    rows, _ = _query("gpu", "index", "memory.used", "memory.total")
    return {
        index: (int(used) << 20, int(total) << 20)
        for index, used, total in rows
        if used.isdecimal() and total.isdecimal()
    }


def describe_gpus() -> list[dict[str, str]]:
    """Number, name and driver version of each GPU; what nvidia-smi does not know is left out."""
    rows, _ = _query("gpu", "index", "name", "driver_version")
    keys = ("gpu", "name", "driver")
    return [{key: cell for key, cell in zip(keys, row, strict=True) if cell} for row in rows]


def gpu_numbers() -> tuple[dict[str, str], str]:
    """GPU UUID -> number, and why nothing is known where nothing is."""
    rows, problem = _query("gpu", "index", "uuid")
    return {uuid: index for index, uuid in rows if index.isdecimal()}, problem


def compute_processes() -> tuple[list[GpuProcess], str]:
    """All processes that compute on GPUs of this machine, and why they are not known."""
    rows, problem = _query("compute-apps", "gpu_uuid", "pid")
    found = [
        GpuProcess(uuid, int(pid) if pid.isdecimal() else None)
        for uuid, pid in rows
        if _UUID.fullmatch(uuid)
    ]
    return found, problem


def _query(what: str, *fields: str) -> tuple[list[list[str]], str]:
    """Rows of `fields`; a value that nvidia-smi does not know is an empty text."""
    output, problem = _run(f"--query-{what}={','.join(fields)}", "--format=csv,noheader,nounits")
    rows = [[_value(cell) for cell in line.split(",")] for line in output.splitlines()]
    # `No devices were found` comes on stdout, and with some drivers with exit code 0.
    return [row for row in rows if len(row) == len(fields)], problem


def _value(cell: str) -> str:
    text = cell.strip()
    # [N/A], [Not Supported], [Insufficient Permissions], [Unknown Error], [GPU is lost] ...
    return "" if text.startswith("[") or text == "N/A" else text


def _run(*arguments: str) -> tuple[str, str]:
    """What nvidia-smi prints; else an empty text and the reason."""
    try:
        process = subprocess.Popen(
            ["nvidia-smi", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        return "", "there is no nvidia-smi on this machine"
    except OSError as error:
        return "", f"nvidia-smi cannot be started: {error.strerror}"
    try:
        stdout, stderr = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _abandon(process)
        return "", f"nvidia-smi gave no answer in {_TIMEOUT_S:g} s"
    if process.returncode != 0:
        return "", f"nvidia-smi failed: {(stdout + stderr).strip()}"
    return stdout, ""


def _abandon(process: subprocess.Popen[str]) -> None:
    """Kill `process` without waiting long for its end.

    With a hung driver nvidia-smi blocks inside the kernel, where not even SIGKILL ends it:
    `subprocess.run` with a time-out would wait for it for ever.
    """
    process.kill()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_KILL_TIMEOUT_S)
