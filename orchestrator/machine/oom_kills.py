"""How often the kernel has killed for memory in this process's cgroup. Linux: reads /proc, /sys."""

from __future__ import annotations

import re
from pathlib import Path

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


_PROC = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def num_oom_kills(proc: Path = _PROC, root: Path = _ROOT) -> int:
    """The kernel's count so far, of this cgroup and those below it; 0 where it keeps none.

    Its growth while an attempt ran is evidence, of which process is not told.
    """
    for path in _candidates(proc, root):
        try:
            match = _COUNT.search(path.read_text())
        except OSError:
            continue
        if match:
            return int(match[1])
    return 0


def _candidates(proc: Path, root: Path) -> list[Path]:
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    paths: list[Path] = []
    for line in lines:
        _, controllers, folder = line.split(":", 2)
        relative = folder.lstrip("/")
        # Inside a container the folder is named as the host sees it, and mounted as the root.
        if "memory" in controllers.split(","):
            base = root / "memory"
            paths += [base / relative / "memory.oom_control", base / "memory.oom_control"]
        elif not controllers:
            paths += [root / relative / "memory.events", root / "memory.events"]
    return paths
