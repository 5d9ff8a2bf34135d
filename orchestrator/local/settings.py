"""What a user chooses about a sweep on this machine; none of it changes a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from merge.errors import UsageError
from merge.records.records import EXPIRY_S, Cause, Owner
from merge.records.short_repr import ShortRepr
from merge.storage.clock import SYSTEM_CLOCK, Clock
from orchestrator.local.limits import (
    BEATS_PER_EXPIRY,
    GRACE_S,
    LONGEST_EXPIRY_S,
    SHORTEST_EXPIRY_S,
)
from orchestrator.machine.devices import Devices
from orchestrator.machine.owners import this_owner
from orchestrator.plan.snapshot import Snapshot
from orchestrator.runs.claim_places import Claims, FolderClaims
from orchestrator.runs.retries import NO_RETRIES, Policy


def _unchanged(cause: Cause) -> Cause:
    return cause


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LocalSettings(ShortRepr):
    """Devices, folders, time limits and retries of `run_local`."""

    devices: Devices
    cache_dir: Path
    """Writable folder for derived data, shared by all runs."""
    data_root: Path | None = None
    weights: Path | None = None
    cwd: Path = field(default_factory=Path.cwd)
    """Where commands are started: a relative word such as `train.sh` is found from here."""
    source: Path | None = None
    """The folder that trainers import papergrid from; None for the one of this process."""
    code: Mapping[str, Any] = field(default_factory=dict)
    """Version of the code that runs now; empty means that of the plan."""
    watch_code: Callable[[], Mapping[str, Any]] | None = None
    """Reads the version of the code when a run starts, where it may change meanwhile."""
    nodes: int = 1
    """Nodes of this SLURM job that share each run; `devices` are those of one node."""
    grace_s: float = GRACE_S
    """How long a run may take to write its checkpoint when it is asked to stop."""
    expiry_s: float = EXPIRY_S
    """Seconds without a heartbeat after which other hosts may take a run of this executor over."""
    heartbeat_s: float = EXPIRY_S / BEATS_PER_EXPIRY
    stand_by: bool = False
    """Whether to wait for runs that other executors have, and take over those of dead ones."""
    owner: Owner = field(default_factory=this_owner)
    claims: Claims = field(default_factory=FolderClaims)
    """Where claims are kept: in the output folder, or in a bucket too."""
    waits_for_gpus: bool = False
    """Whether a run starts only on GPUs that others do not use."""
    runs_per_device: int = 1
    """Runs that may share a device at a time."""
    retries: Policy = NO_RETRIES
    restart_stalled_s: float | None = None
    """Seconds without output after which a run is killed as stalled; None only shows it as such."""
    clock: Clock = SYSTEM_CLOCK
    begun: float | None = None
    """Monotonic time at which the user gave the command; None for the start of `run_local`. A run
    that failed earlier is tried again, one that fails later on another host is not."""
    why_stopped: Callable[[Cause], Cause] = _unchanged
    """The real cause of a signal to stop, such as a time limit; called after the trainers were
    asked to stop, because asking a scheduler takes time."""

    def code_now(self) -> Mapping[str, Any]:
        """The version of the code that a run which starts now is trained with."""
        return self.watch_code() if self.watch_code else self.code


def with_claim_expiry(settings: LocalSettings, *, expiry_s: float, stand_by: bool) -> LocalSettings:
    """`settings` with claims that expire after `expiry_s`. UsageError where it is out of range."""
    if not SHORTEST_EXPIRY_S <= expiry_s <= LONGEST_EXPIRY_S:
        raise UsageError(
            f"--claim-expiry {expiry_s:g}: choose from {SHORTEST_EXPIRY_S:g} s to a day"
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
        watch_code=None,
    )
