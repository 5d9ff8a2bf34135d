"""Kills what a dead executor leaves behind, even one that was killed with SIGKILL.

As a script (`python -I -S guard.py MARKER`) it waits on a pipe that only the executor holds open.
The pipe's end without a farewell is the executor's death: every process that was started with
`PAPERGRID_EXECUTOR=MARKER` is killed. Standard library only, so that it starts in milliseconds.

Processes are found by the environment they were started with (/proc, Linux): what leaves its
process group or session, as daemons and loaders do, is found all the same.
"""

from __future__ import annotations

import os
import signal
import sys
import time

EXECUTOR = "PAPERGRID_EXECUTOR"
"""Names the executor in the environment of all that it starts."""

TOKEN = "PAPERGRID_TOKEN"
"""Names the attempt in the environment of all its processes."""

_CHUNK = 1 << 16
_EXEC_PATIENCE_S = 1.0

_MEMORY, _ENV_END = 23 - 3, 51 - 3
"""Fields vsize and env_end of /proc/PID/stat, counted behind the name."""


def initial_environment(pid: int) -> bytes:
    """What `pid` was started with, as `\\0NAME=value\\0...`; empty where it is gone or not ours."""
    try:
        data = _read(f"/proc/{pid}/environ")
        deadline = time.monotonic() + _EXEC_PATIENCE_S
        while not data and time.monotonic() < deadline:
            is_started = _is_started(pid)
            data = _read(f"/proc/{pid}/environ")
            if is_started:
                break
            time.sleep(0.0005)
    except OSError:
        return b""
    return b"\0" + data


def _is_started(pid: int) -> bool:
    """False in the middle of an exec, where the environment still reads as empty."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    # The dead and the kernel's own have no memory to keep one in.
    return fields[_MEMORY] == b"0" or fields[_ENV_END] != b"0"


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = chunk = os.read(descriptor, _CHUNK)
        while len(chunk) == _CHUNK:
            chunk = os.read(descriptor, _CHUNK)
            data += chunk
        return data
    finally:
        os.close(descriptor)


def marked_processes(name: str, value: str) -> list[int]:
    """Ids of all other processes that were started with `name=value` in their environment."""
    needle = f"\0{name}={value}\0".encode()
    others = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208
    return [pid for pid in others if pid != os.getpid() and needle in initial_environment(pid)]


def kill_marked(name: str, value: str, patience_s: float = 10.0) -> list[int]:
    """SIGKILL every process started with `name=value` until none is left.

    Returns those that still stand after `patience_s` seconds: blocked inside the kernel.
    """
    deadline = time.monotonic() + patience_s
    while found := marked_processes(name, value):
        for pid in found:
            _kill(pid)
        if time.monotonic() > deadline:
            return found
        time.sleep(0.002)
    return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(marker: str) -> None:
    # A scheduler signals every process of a job; this one ends with its executor, not before.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    farewell = os.read(sys.stdin.fileno(), 1)
    if farewell:
        return
    kill_marked(EXECUTOR, marker)
    # A child that was being started at the moment of death carries the marker only from its exec.
    time.sleep(0.2)
    kill_marked(EXECUTOR, marker)


if __name__ == "__main__":
    main(sys.argv[1])
