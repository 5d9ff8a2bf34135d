"""Time limits and memory in the formats of sbatch, and how a retry raises them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from merge.errors import UsageError
from orchestrator.slurm.request import SlurmRequest

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+)")
_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
_MEMORY = re.compile(r"(\d+)([KMGT]?)B?")
_MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}


def time_limit_s(time: str | int | None) -> float | None:
    """A time limit in seconds: infinite for UNLIMITED and 0, None where none is requested.

    `90` (minutes), `30:00`, `4:00:00`, `1-12`, `1-12:30:00`.
    """
    if time is None:
        return None
    # To sbatch a limit of zero is none at all.
    return _seconds(str(time)) or math.inf


def _seconds(text: str) -> float:
    """0 for UNLIMITED and INFINITE."""
    if text.isdecimal():
        return int(text) * 60.0
    if match := _DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60.0 + minutes) * 60 + seconds
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return (hours * 60.0 + minutes) * 60 + seconds
    return 0.0


def check_time_limit(request: SlurmRequest) -> None:
    """UsageError where a task would be stopped before it can reach a checkpoint.

    It gets its signal `signal_s` before its limit. Before that it must have time for what a
    checkpoint may take: else each start ends where it began.
    """
    limit_s = time_limit_s(request.time)
    needed_s = request.signal_s + request.grace_s
    if limit_s is not None and limit_s < needed_s:
        raise UsageError(
            f"--time {request.time} is {limit_s:.0f} s, and a task is asked to stop "
            f"{request.signal_s} s before its limit (--signal-s): no run would get as far as a "
            f"checkpoint; request at least {needed_s} s, or a smaller --signal-s"
        )


def raised(request: SlurmRequest, num_raises: Mapping[str, int]) -> SlurmRequest:
    """`request` with more memory and time, by its factors `raise_on_retry`, so many times."""
    memory, time = request.mem, request.time
    if (factor := _factor(request, num_raises, "mem")) and memory is not None:
        memory = f"{math.ceil(_mib(memory) * factor)}M"
    limit_s = time_limit_s(time)
    if (factor := _factor(request, num_raises, "time")) and limit_s and math.isfinite(limit_s):
        time = math.ceil(limit_s * factor / 60)
    return replace(request, mem=memory, time=time)


def _factor(request: SlurmRequest, num_raises: Mapping[str, int], key: str) -> float | None:
    """By how much `key` is raised; None where it stays."""
    count = num_raises.get(key, 0)
    factor = request.raise_on_retry.get(key)
    return factor**count if factor and count else None


def _mib(memory: str | int) -> float:
    match = _MEMORY.fullmatch(str(memory))
    assert match is not None, "checked by SlurmShape"
    return int(match[1]) * _MIB[match[2]]
