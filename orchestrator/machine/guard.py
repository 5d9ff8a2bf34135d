"""Kills the processes of a dead executor, even of one that was killed with SIGKILL.

As a script (`python -I -S guard.py MARKER`) it waits on a pipe that only the executor holds open.
If the pipe closes without a byte, the executor is dead: every process that was started with
`PAPERGRID_EXECUTOR=MARKER` gets SIGKILL. Standard library only, so that it starts in milliseconds.

Processes are found by the environment with which they started (/proc, Linux). A process group or
session is not enough: torchrun, daemons and data loaders leave theirs.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time

EXECUTOR = "PAPERGRID_EXECUTOR"
"""Identifies the executor, in the environment of all processes that it starts."""

TOKEN = "PAPERGRID_TOKEN"
"""Identifies the attempt, in the environment of all its processes."""

_CHUNK = 1 << 16
_PROTECTED = (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM)
_EXEC_TIMEOUT_S = 1.0

_MEMORY, _ENV_END = 23 - 3, 51 - 3
"""Indices of vsize and env_end in /proc/PID/stat, counted from the field after the name."""


def initial_environment(pid: int) -> bytes:
    """The environment at the start of `pid`, as `\\0NAME=value\\0...`.

    Empty for a process that is gone or belongs to another user. OSError where nothing can be read
    now, such as with too many open files: a process that was not looked at is not absent.
    """
    try:
        data = _read(f"/proc/{pid}/environ")
        deadline = time.monotonic() + _EXEC_TIMEOUT_S
        # In the middle of execve the file reads as empty: such a process would be missed.
        while not data and time.monotonic() < deadline:
            # Checked before the second read: what was empty after the exec is empty for good.
            is_started = _is_started(pid)
            data = _read(f"/proc/{pid}/environ")
            if is_started:
                break
            time.sleep(0.0005)
    except OSError as error:
        if error.errno not in _PROTECTED:
            raise
        return b""
    return b"\0" + data


def _is_started(pid: int) -> bool:
    """False in the middle of execve, while the environment still reads as empty."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    # Zombies and kernel threads have no memory and never get an environment.
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
    """Ids of all other processes that started with `name=value` in their environment."""
    needle = f"\0{name}={value}\0".encode()
    others = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208
    return [pid for pid in others if pid != os.getpid() and needle in initial_environment(pid)]


def kill_marked(name: str, value: str, timeout_s: float = 10.0) -> list[int]:
    """Send SIGKILL to every process started with `name=value` until none is left.

    Repeated, because a process may fork between two scans. Returns the ids of those that survive
    `timeout_s` seconds: they are blocked inside the kernel (state D), as on a dead NFS server.
    OSError where /proc cannot be read for as long.
    """
    deadline = time.monotonic() + timeout_s
    while found := _look(name, value, deadline):
        for pid in found:
            _kill(pid)
        if time.monotonic() > deadline:
            return found
        time.sleep(0.002)
    return []


def _look(name: str, value: str, deadline: float) -> list[int]:
    while True:
        try:
            return marked_processes(name, value)
        except OSError:
            # Too many open files, no memory: what else this machine does may end soon.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(marker: str) -> None:
    # A scheduler or terminal signals all processes of a job; the guard must outlive the executor.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    byte = os.read(sys.stdin.fileno(), 1)
    if byte:
        # The executor ended in order (`Guardian.close`).
        return
    kill_marked(EXECUTOR, marker)
    # A child that the executor was just starting has the marker only after its execve.
    time.sleep(0.2)
    kill_marked(EXECUTOR, marker)


if __name__ == "__main__":
    main(sys.argv[1])
