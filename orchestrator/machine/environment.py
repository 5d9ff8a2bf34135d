"""Where attempts run: versions, driver, folder, the scheduler's job. Asked once an executor."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PACKAGES = ("papergrid", "torch", "torchvision", "timm", "numpy")
_JOB = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_JOB_NODELIST",
    "SLURM_CLUSTER_NAME",
)
_PATIENCE_S = 60.0


def describe_environment(
    cwd: Path, environment: Mapping[str, str], *, has_gpus: bool
) -> dict[str, Any]:
    """What an attempt's record tells of where it ran; what is not there is None or left out.

    The trainer's own env.json says more: torch's CUDA, the devices by name.
    """
    return {
        "hostname": os.uname().nodename,
        "cwd": str(cwd),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "gpus": _gpus() if has_gpus else [],
        "job": {name: environment[name] for name in _JOB if name in environment},
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> list[dict[str, str]]:
    """Number, name and driver of each GPU; empty where nvidia-smi does not tell."""
    words = ["nvidia-smi", "--query-gpu=index,name,driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(
            words, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.split(", ") for line in told.stdout.splitlines()] if not told.returncode else []
    return [dict(zip(("gpu", "name", "driver"), row, strict=False)) for row in rows]
