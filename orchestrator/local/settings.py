"""What a person may choose about a sweep on this machine; none of it decides numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from merge.errors import UsageError
from merge.records.records import EXPIRY_S, Cause, Owner
from merge.records.sweep import Run
from orchestrator.machine.devices import Devices
from orchestrator.machine.owners import this_owner
from orchestrator.plan.snapshot import Snapshot
from orchestrator.runs.claims import Claims, FolderClaims
from orchestrator.runs.retries import NO_RETRIES, Policy

BEATS_PER_EXPIRY = 6
"""Signs of life that must all be missed before an owner counts as dead."""

_SHORTEST_EXPIRY_S = 1.0
_LONGEST_EXPIRY_S = 86400.0


def _do_nothing(runs: Sequence[Run]) -> None:
    """What follows completed runs where nobody asked for more."""


def _as_told(cause: Cause) -> Cause:
    return cause


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
    source: Path | None = None
    """What trainers import papergrid from; None for what this process runs."""
    code: Mapping[str, Any] = field(default_factory=dict)
    """Version of the code that runs now; empty stands for the plan's."""
    nodes: int = 1
    """Nodes of this SLURM job over which each run is spread; `devices` are those of one of them."""
    grace_s: float = 120.0
    """How long a run may take to write its checkpoint when it is asked to stop."""
    expiry_s: float = EXPIRY_S
    """Silence after which executors on other hosts may take a run of this one for a dead one's."""
    heartbeat_s: float = EXPIRY_S / BEATS_PER_EXPIRY
    stand_by: bool = False
    """Whether to wait for the runs that others have, and take over those of the dead."""
    owner: Owner = field(default_factory=this_owner)
    claims: Claims = field(default_factory=FolderClaims)
    """Who decides whose a run is: the output folder, or a bucket too."""
    runs_per_device: int = 1
    """How many runs may share a device at a time."""
    retries: Policy = NO_RETRIES
    restart_stalled_s: float | None = None
    """Silence after which a run is killed and counts as stalled; None only shows it so."""
    why_stopped: Callable[[Cause], Cause] = _as_told
    """What is behind a request to stop that looks like this; asked once all trainers are told."""
    on_completion: Callable[[Sequence[Run]], object] = _do_nothing
    """Called with the runs that have a result since the last call, once the freed devices are at
    work again: what follows may take longer than the shortest runs."""


def among_others(settings: LocalSettings, *, expiry_s: float, stand_by: bool) -> LocalSettings:
    """`settings` of an executor whose claims expire after `expiry_s`. UsageError if that is odd."""
    if not _SHORTEST_EXPIRY_S <= expiry_s <= _LONGEST_EXPIRY_S:
        raise UsageError(
            f"--claim-expiry {expiry_s:g}: choose from {_SHORTEST_EXPIRY_S:g} s to a day"
        )
    return replace(
        settings, expiry_s=expiry_s, heartbeat_s=expiry_s / BEATS_PER_EXPIRY, stand_by=stand_by
    )


def with_snapshot(settings: LocalSettings, snapshot: Snapshot) -> LocalSettings:
    """`settings` whose attempts run the code of `snapshot` and record its version."""
    return replace(
        settings,
        source=snapshot.source,
        cwd=snapshot.cwd or settings.cwd,
        code=snapshot.code,
    )
