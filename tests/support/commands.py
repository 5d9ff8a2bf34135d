"""Starting the real `replicate` command in tests, and finding every process it has started."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_MARK = "PAPERGRID_TEST_MARK"


def replicate(
    *words: object, cwd: Path, env: Mapping[str, str] | None = None, timeout_s: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run `replicate words` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "replicate.cli.main", *map(str, words)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@dataclass
class MarkedCommand:
    """A `replicate` command all of whose descendants can be found by an inherited mark."""

    words: Sequence[object]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """Start it; its output is appended to `log`."""
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "replicate.cli.main", *map(str, self.words)],
                cwd=self.cwd,
                env={**os.environ, **self.env, _MARK: self.mark},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[int]:
        """Pids of all its living processes, itself included, sorted."""
        needle = f"{_MARK}={self.mark}".encode()
        return sorted(
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and needle in _environment(entry) and _is_alive(entry)
        )


def command_line(pid: int) -> str:
    """The command line of a process; empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _environment(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""


def _is_alive(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
