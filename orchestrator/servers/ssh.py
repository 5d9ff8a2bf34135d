"""Scripts on other hosts, through the person's own OpenSSH: their configuration, keys, jump hosts.

A script travels on stdin, never as an argument: no login shell parses it, no process list shows it.
What it has to tell comes back on lines that begin with a mark; whatever else a host prints, in
banners or start-up files, is no answer.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from merge.errors import UsageError

REMOTE_SHELL = "exec bash --noprofile --norc -s"

_OPTIONS = (
    "BatchMode=yes",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    # What an alias is set up to do for a person who logs in must not happen here.
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
    "RequestTTY=no",
)
_MOST_AT_ONCE = 32
_LAST_LINES = 3
_SSH_FAILED = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How a host is reached."""

    destination: str
    config: Path | None = None
    """None is the person's own."""
    connect_timeout_s: int = 15

    def words(self) -> list[str]:
        """The `ssh` command that reads a script on its stdin."""
        options = [f"-oConnectTimeout={self.connect_timeout_s}", *(f"-o{o}" for o in _OPTIONS)]
        config = ["-F", str(self.config)] if self.config else []
        return ["ssh", *config, *options, "--", self.destination, REMOTE_SHELL]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a script."""

    told: tuple[str, ...]
    """What it told by `tell`, in order."""
    exit_code: int
    trouble: str = ""
    """Why the host could not be asked, or what its last words were; empty where it ended well."""


def ask(reach: Reach, script: Callable[[str], str], timeout_s: float) -> Answer:
    """Run on a host what `script(mark)` returns: lines of bash that may use `tell TEXT`.

    UsageError where there is no ssh on this machine.
    """
    mark = f"papergrid-{secrets.token_hex(8)}"
    try:
        done = subprocess.run(
            reach.words(),
            input=wrapped(script(mark), mark).encode(),
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise UsageError("there is no `ssh` on this machine: install openssh-client") from error
    except subprocess.TimeoutExpired:
        return Answer(told=(), exit_code=_SSH_FAILED, trouble=f"no answer in {timeout_s:.0f} s")
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    told = tuple(line.removeprefix(f"{mark} ") for line in lines if line.startswith(f"{mark} "))
    return Answer(told=told, exit_code=done.returncode, trouble=_trouble(done, bool(told)))


def wrapped(script: str, mark: str) -> str:
    """`script` as one compound command, read to its end before any of it runs."""
    # Without the braces, a command in the script that reads stdin would eat the rest of it.
    return f"{{\ntell() {{ printf '%s %s\\n' '{mark}' \"$1\"; }}\n{script}\n}} </dev/null\n"


def _trouble(done: subprocess.CompletedProcess[bytes], has_told: bool) -> str:
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines()]
    words = " / ".join([line for line in lines if line][-_LAST_LINES:])
    if done.returncode == _SSH_FAILED and not has_told:
        return f"cannot be reached: {words or 'ssh gave no reason'}"
    return words or f"exit code {done.returncode}"


Item = TypeVar("Item")
Out = TypeVar("Out")


def in_parallel(work: Callable[[Item], Out], items: Sequence[Item]) -> list[Out]:
    """`work(item)` of all items at once, in the items' order."""
    with ThreadPoolExecutor(max_workers=_MOST_AT_ONCE) as pool:
        return list(pool.map(work, items))
