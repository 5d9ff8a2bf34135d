"""What a person may choose about a sweep on this machine; none of it decides numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from merge.records import Owner
from merge.sweep import Run
from orchestrator.claims import EXPIRY_S
from orchestrator.devices import Devices
from orchestrator.owners import this_owner
from orchestrator.retries import NO_RETRIES, Policy


def _do_nothing(run: Run) -> None:
    """What follows a completed run where nobody asked for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """Of `run_local`: devices, folders, patience."""

    devices: Devices
    cache_dir: Path
    """Writable folder for derived data, shared by all runs."""
    data_root: Path | None = None
    weights: Path | None = None
    cwd: Path = field(default_factory=Path.cwd)
    """Where commands are started: words such as `train.sh` are seen from here."""
    code: Mapping[str, Any] = field(default_factory=dict)
    """Version of the code that runs now; empty stands for the plan's."""
    grace_s: float = 120.0
    """How long a run may take to write its checkpoint when it is asked to stop."""
    expiry_s: float = EXPIRY_S
    """Age at which a heartbeat from another host is a dead owner's."""
    heartbeat_s: float = 10.0
    owner: Owner = field(default_factory=this_owner)
    runs_per_device: int = 1
    """How many runs may share a device at a time."""
    retries: Policy = NO_RETRIES
    restart_stalled_s: float | None = None
    """Silence after which a run is killed and counts as stalled; None only shows it so."""
    on_completion: Callable[[Run], object] = _do_nothing
    """Called after each committed result, once the freed devices are at work again."""
