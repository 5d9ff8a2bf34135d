"""What one run needs of a machine, as a plan keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

DeviceKind = Literal["cuda", "cpu"]
"""What a run computes on, once `auto` is decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one run needs of a machine. Never part of the configuration hash."""

    device: Literal["auto", "cuda", "cpu"] = "auto"
    devices_per_run: int = 1
    num_workers: int = 0
    """Loader processes per rank."""
    launcher: Literal["torchrun", "none"] = "torchrun"
    """`none` starts the command once; `torchrun` starts one rank per device."""
    hours: float | None = None
    """Expected duration of the run, from the study; measured durations are preferred."""
    gpu_mem_gb: float | None = None
    """GPU memory that it needs, in GB; None where it is not known."""
    nodes: int = 1
    """Machines that a SLURM job spreads the ranks of a run over; elsewhere one has them all."""
    slurm: Mapping[str, Any] = field(default_factory=dict)
    """The study's settings for SLURM jobs, see `orchestrator.slurm.request`."""


_NAMES = tuple(each.name for each in fields(Resources))


def resources_to_json(resources: Resources) -> dict[str, Any]:
    """`resources` as a run of a plan lists them."""
    return {name: getattr(resources, name) for name in _NAMES}


def resources_from_json(document: Mapping[str, Any]) -> Resources:
    """What `resources_to_json` wrote. TypeError where `document` is none."""
    return Resources(**{**document, "slurm": dict(document.get("slurm", {}))})
