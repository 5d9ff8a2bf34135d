"""Where attempts run: versions, driver, folder, SLURM job. Read once per executor."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.machine.nvidia_smi import describe_gpus

PACKAGES = ("papergrid", "torch", "torchvision", "timm", "numpy")
_JOB = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_JOB_NODELIST",
    "SLURM_CLUSTER_NAME",
)


def describe_environment(
    cwd: Path, environment: Mapping[str, str], *, has_gpus: bool
) -> dict[str, Any]:
    """The `environment` of an attempt's record; what is not there is None or left out.

    Python and packages are papergrid's own, which a trainer of ours runs with. Its env.json holds
    more: torch's CUDA version, the devices by name.
    """
    return {
        "hostname": os.uname().nodename,
        "cwd": str(cwd),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "gpus": describe_gpus() if has_gpus else [],
        "job": {name: environment[name] for name in _JOB if name in environment},
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
