"""Whether /dev/shm holds the batches of loader processes; docker gives a container 64 MB of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from merge.records.sweep import Run
from merge.wording import size_text

BYTES_OF_A_LOADER = 64 * 2**20
"""A bound, not a measurement: a loader process keeps two batches ready, of 32 MB each. Larger ones
that do not fit end the attempt as `host_oom`, and the next one has half as many loaders."""

MORE_ROOM = (
    "make /dev/shm larger (docker: --shm-size=8g or --ipc=host), or lower num_workers in the "
    "study's resources"
)

SHARED_MEMORY = Path("/dev/shm")


def free_shared_memory(place: Path = SHARED_MEMORY) -> int:
    """Bytes that are free in /dev/shm. OSError where there is none."""
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def loader_processes(runs: Sequence[Run], num_ranks: int | None = None) -> int:
    """The most that run at once: those of `num_ranks` ranks, or of one run alone."""
    return max(
        (run.resources.num_workers * (num_ranks or run.resources.devices_per_run) for run in runs),
        default=0,
    )


def shortage(free: int, num_loaders: int) -> str:
    """That `free` bytes of /dev/shm may not do for so many loaders; empty where they do."""
    need = num_loaders * BYTES_OF_A_LOADER
    if free >= need:
        return ""
    processes = f"{num_loaders} loader process{'es' if num_loaders > 1 else ''}"
    return f"/dev/shm has {size_text(free)} free, {processes} may need {size_text(need)}"


def shortage_of(runs: Sequence[Run], num_ranks: int) -> str:
    """What to do where /dev/shm of this machine may be too small for `runs`; empty: nothing."""
    num_loaders = loader_processes(runs, num_ranks)
    if not num_loaders:
        return ""
    try:
        found = shortage(free_shared_memory(), num_loaders)
    except OSError as error:
        found = f"/dev/shm cannot be used ({error.strerror}), and loader processes need it"
    return f"{found}: {MORE_ROOM}" if found else ""
