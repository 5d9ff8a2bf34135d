"""The process that owns a claim, and whether it is still alive (Linux: reads /proc)."""

from __future__ import annotations

import os
from pathlib import Path

from merge.records.records import Owner

_PROC = Path("/proc")
_DEAD_STATES = frozenset("ZXx")


def this_owner() -> Owner:
    """This process as the owner of claims."""
    pid = os.getpid()
    started = _start_time(pid)
    assert started is not None, "this process is in /proc"
    return Owner(host=os.uname().nodename, pid=pid, pid_started=started, boot_id=_boot_id())


def owner_alive(owner: Owner, here: Owner) -> bool | None:
    """Whether `owner` is alive; None if `here` cannot know: another host, boot or pid namespace."""
    if (owner.host, owner.boot_id) != (here.host, here.boot_id):
        return None
    # The kernel reuses process ids: only the start time tells one process from a later one.
    return _start_time(owner.pid) == owner.pid_started


def parent_of(pid: int) -> int | None:
    """Id of the parent process of `pid`; None if `pid` is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the start of `pid`; None if it is gone or a zombie."""
    fields = _stat(pid)
    if not fields or fields[0] in _DEAD_STATES:
        return None
    return fields[19]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state (field 3) on; empty where `pid` is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes().decode("utf-8", "replace")
    # ESRCH: the process ended between open and read.
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name in parentheses may itself hold spaces and parentheses: the last one counts.
    return text.rpartition(")")[2].split()


def _boot_id() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    # Two containers of one machine can have equal host names and boot ids, but other process ids.
    namespace = (_PROC / "self/ns/pid").readlink()
    return f"{boot}/{namespace}"
