"""What a run ran on: versions, machine, devices."""

from __future__ import annotations

import os
import platform
import socket
from importlib import metadata

import torch

from experiments.runtime.allocator import allocator_settings
from experiments.runtime.distributed import Ranks
from merge.storage.json_files import Json

_PACKAGES = ("papergrid", "torch", "torchvision", "timm", "numpy", "pillow")


def describe_environment(ranks: Ranks) -> dict[str, Json]:
    """Versions, host and devices of this attempt as JSON, for its env.json."""
    versions: dict[str, Json] = {name: _version(name) for name in _PACKAGES}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "hostname": socket.gethostname(),
        "num_cpus": len(os.sched_getaffinity(0)),
        "num_threads": torch.get_num_threads(),
        "world_size": ranks.world_size,
        "device": ranks.device.type,
        "device_name": _device_name(ranks.device),
        "cuda": torch.version.cuda,
        "cudnn": _cudnn_version() if ranks.device.type == "cuda" else None,
        "allocator": allocator_settings(os.environ) if ranks.device.type == "cuda" else None,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cudnn_version() -> int | None:
    version: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return version


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
