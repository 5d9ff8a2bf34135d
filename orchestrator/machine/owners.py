"""Who owns a claim, and whether that process still lives. Linux: reads /proc."""

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
    """Whether `owner` lives; None where `here` cannot tell: another host, boot or pid namespace."""
    if (owner.host, owner.boot_id) != (here.host, here.boot_id):
        return None
    return _start_time(owner.pid) == owner.pid_started


def parent_of(pid: int) -> int | None:
    """Id of `pid`'s parent process; None where `pid` is gone."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _start_time(pid: int) -> str | None:
    """Clock ticks from boot to the start of `pid`; None where it is dead, be it unreaped."""
    fields = _stat(pid)
    if not fields or fields[0] in _DEAD_STATES:
        return None
    return fields[19]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state (field 3) on; empty where `pid` is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The command's name, in parentheses, may itself hold spaces and parentheses.
    return text.rpartition(")")[2].split()


def _boot_id() -> str:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    # Two containers of one machine can share host name and boot, never the meaning of a pid.
    namespace = (_PROC / "self/ns/pid").readlink()
    return f"{boot}/{namespace}"
