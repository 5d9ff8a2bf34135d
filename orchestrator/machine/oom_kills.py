"""How often the kernel killed a process of this cgroup because memory ran out (Linux)."""

from __future__ import annotations

import re
from pathlib import Path

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


_PROC = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def num_oom_kills(proc: Path = _PROC, root: Path = _ROOT) -> int:
    """The kernel's count so far, for this cgroup and those below it; 0 where there is none.

    A count that grew while an attempt ran is evidence for an out-of-memory kill; the kernel does
    not say which process it was.
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
        # In a container /proc shows the path on the host, while that folder is mounted as the root.
        # cgroup v1 has a line per controller, v2 one line without controllers.
        if "memory" in controllers.split(","):
            base = root / "memory"
            paths += [base / relative / "memory.oom_control", base / "memory.oom_control"]
        elif not controllers:
            paths += [root / relative / "memory.events", root / "memory.events"]
    return paths
