"""How many cores this process may use: affinity, SLURM's share, and the quota of its cgroup."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_PROC = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")
_V1 = ("cpu,cpuacct", "cpuacct,cpu", "cpu")
"""Names under which the controller is mounted."""


def num_usable_cores() -> int:
    """Cores that this process may use, at least 1: in a SLURM job at most those of the job here."""
    cores = num_visible_cores()
    quota = cpu_quota()
    # Half a core more would be a process more than the quota keeps busy.
    return cores if quota is None else max(1, min(cores, int(quota)))


def num_threads() -> int | None:
    """Threads that a process should start; None where it finds the right number itself.

    OpenMP counts the cores that it sees: of 64 threads on a quota of two cores, most are stopped at
    any moment, and each step waits for them.
    """
    return num_usable_cores() if num_usable_cores() < num_visible_cores() else None


def num_visible_cores() -> int:
    """Cores as affinity and SLURM give them, whatever the quota."""
    cores = len(os.sched_getaffinity(0))
    # Without task/affinity or cgroup binding, a SLURM job sees all cores of its node.
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return min(cores, int(given)) if given.isdecimal() and int(given) > 0 else cores


def cpu_quota(proc: Path = _PROC, root: Path = _ROOT) -> float | None:
    """Cores that the quotas of this cgroup and those above it allow; None where there is none."""
    quotas = [quota for folder in _folders(proc, root) if (quota := _quota_of(folder))]
    return min(quotas, default=None)


def _quota_of(folder: Path) -> float | None:
    """The quota of one cgroup: v2 keeps it in one file, v1 in two."""
    try:
        if folder.joinpath("cpu.max").exists():
            quota, period = folder.joinpath("cpu.max").read_text().split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = (folder.joinpath(name).read_text().strip() for name in names)
        # `max`, and -1: none.
        return int(quota) / int(period) if quota.isdecimal() and int(period) > 0 else None
    except (OSError, ValueError):
        return None


def _folders(proc: Path, root: Path) -> Iterator[Path]:
    """The cgroups that this process is in, and all above them, where they may be mounted."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            bases: tuple[Path, ...] = (root, root / "unified")
        elif "cpu" in controllers.split(","):
            bases = tuple(root / name for name in _V1)
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        # In a container /proc may show the path on the host, while that cgroup is mounted as the
        # root.
        for base in bases:
            yield from (base / folder for folder in (inner, *inner.parents))
