"""What the failures of loader processes mean: torch's own words name neither cause nor remedy.

Imports no torch: the outermost frame of a trainer uses it (`entry`).
"""

from __future__ import annotations

import re

from merge.errors import PapergridError


class HostMemoryError(PapergridError):
    """The loader processes need more memory than this host has, or than its /dev/shm has."""


class LoaderTimeoutError(PapergridError):
    """No loader process has sent anything for too long."""


_SHARED = re.compile(
    r"(?:shared memory|shm|/torch_\d+).*(?:No space left|Cannot allocate memory)"
    r"|DataLoader worker \(pid.*\) is killed by signal: Bus error",
    re.DOTALL,
)
_KILLED = re.compile(
    r"DataLoader worker \(pid.*?\) "
    r"(?:is killed by signal: Killed|exited unexpectedly(?! with exit code))"
)
_TIMED_OUT = re.compile(r"DataLoader timed out after ([\d.]+) seconds")
_DESCRIPTORS = re.compile(r"Too many open files|received \d+ items of ancdata")


def explained(error: Exception, num_workers: int) -> Exception:
    """`error` in words that name its cause, where loader processes made it; else itself."""
    text = _chained(error)
    if isinstance(error, PapergridError) or not num_workers:
        return error
    if _SHARED.search(text):
        return HostMemoryError(
            f"/dev/shm is too small for the batches of {_processes(num_workers)} a rank: make it "
            "larger (docker: --shm-size=8g or --ipc=host), or lower num_workers in the study's "
            f"resources ({_first_line(text)})"
        )
    if _KILLED.search(text):
        return HostMemoryError(
            f"one of {_processes(num_workers)} was killed, as a system short of memory does: "
            "give the run more memory, or lower num_workers in the study's resources "
            f"({_first_line(text)})"
        )
    if found := _TIMED_OUT.search(text):
        return LoaderTimeoutError(
            f"none of {_processes(num_workers)} sent anything for {float(found[1]):.0f} s: "
            "look whether the data can be read, or raise loader_timeout_s (0 waits for ever)"
        )
    if _DESCRIPTORS.search(text):
        return PapergridError(
            f"{_processes(num_workers)} and this rank need more open files than the shell allows: "
            "raise the limit (ulimit -n 65536), or lower num_workers in the study's resources "
            f"({_first_line(text)})"
        )
    return error


def _processes(number: int) -> str:
    return f"{number} loader process{'es' if number > 1 else ''}"


def _chained(error: Exception) -> str:
    """What `error` says, after what it was raised from: there torch names the signal."""
    before = error.__cause__ or error.__context__
    return f"{before}\n{error}" if before else str(error)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].strip()
