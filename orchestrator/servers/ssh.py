"""Scripts on other hosts, through the person's own OpenSSH: their configuration, keys, jump hosts.

A script travels on stdin, never as an argument: no login shell parses it, no process list shows it.
Its results come back on lines that begin with a mark; everything else that a host prints, in
banners or start-up files, is ignored. A shared connection (ControlMaster) of the person is used
too: a call takes 0.11 s instead of 0.34 s.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from merge.errors import UsageError
from orchestrator.servers.watched import Ended, Limits, NoOutputError, run_watched

REMOTE_SHELL = "exec bash --noprofile --norc -s"
"""A constant, because the login shell of the host parses it, which may be tcsh or fish. `exec`
replaces that shell by bash. The login shell may print before, for example from ~/.bashrc."""

_OPTIONS = (
    # No prompt: it would be shown to no one, and the call would hang until its time-out.
    "BatchMode=yes",
    # A host without power sends no end of file: without these a call waits for TCP, many minutes.
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    # A person's alias may be made for logging in: forwarded ports that are already taken, tmux as
    # remote command, a pty that turns the script's newlines into CR LF and echoes it.
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
    "RequestTTY=no",
)
_LOGIN_S = 15
"""For the login itself, after the connection: keys, and what a login shell does."""
_PING_EVERY_S = 5
_MISSED_PINGS = 4
_MAX_PARALLEL = 32
_LAST_LINES = 3
SSH_FAILED = 255
"""OpenSSH's own exit code where no connection was made; a remote command can return it too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshTarget:
    """A host, and how ssh connects to it."""

    destination: str
    config: Path | None = None
    """None is the person's own."""
    connect_timeout_s: int = 15

    def command(self) -> list[str]:
        """The `ssh` command that reads a script on its stdin."""
        options = [f"-oConnectTimeout={self.connect_timeout_s}", *(f"-o{o}" for o in _OPTIONS)]
        config = ["-F", str(self.config)] if self.config else []
        # `--`: a destination that begins with a dash must not become an option.
        return ["ssh", *config, *options, "--", self.destination, REMOTE_SHELL]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptResult:
    """What a script on a host reported."""

    lines: tuple[str, ...]
    """What it passed to `report`, in order."""
    exit_code: int
    error: str = ""
    """Why there was no connection, or the end of stderr; empty where the script succeeded."""


def run_script(target: SshTarget, script: Callable[[str], str], timeout_s: float) -> ScriptResult:
    """Run on a host what `script(mark)` returns: lines of bash that may use `report TEXT`.

    Failures of the connection are in the result. UsageError where there is no ssh on this machine.
    """
    mark = f"papergrid-{secrets.token_hex(8)}"
    limits = Limits(
        total_s=timeout_s,
        first_s=target.connect_timeout_s + _LOGIN_S,
        silence_s=_PING_EVERY_S * _MISSED_PINGS,
    )
    text = wrapped(f"{_pings(mark)}\n{script(mark)}", mark).encode()
    try:
        ended = run_watched(target.command(), text, limits)
    except FileNotFoundError as error:
        raise UsageError("there is no `ssh` on this machine: install openssh-client") from error
    except NoOutputError as error:
        return ScriptResult(lines=(), exit_code=SSH_FAILED, error=_no_answer(error))
    return _parse(ended, f"{mark} ")


def _pings(mark: str) -> str:
    """Lines of bash that print to stderr at once and then regularly, as long as the script runs.

    Over a shared connection the options ServerAlive* have no effect: only the master has them.
    """
    # The output of sleep is closed: else the call would last until its end. It runs beside a
    # `wait`, which a signal interrupts: nothing is left on the host when the script has ended.
    pause = f"sleep {_PING_EVERY_S} >/dev/null 2>&1 & wait $!"
    return "\n".join(
        [
            "{ trap 'kill $! 2>/dev/null; exit' TERM",
            f"while printf '{mark} ping\\n' >&2; do {pause}; done; }} &",
            "__ping=$!",
            "trap 'kill $__ping 2>/dev/null; wait $__ping 2>/dev/null' EXIT",
        ]
    )


def _no_answer(error: NoOutputError) -> str:
    words = f"no answer in {error.seconds:.0f} s"
    if error.is_total:
        return words
    return (
        f"{words}; a shared connection (ControlMaster) over a dead link is closed by `ssh -O exit`"
    )


def _parse(ended: Ended, prefix: str) -> ScriptResult:
    output = ended.stdout.decode("utf-8", "replace").splitlines()
    lines = tuple(line.removeprefix(prefix) for line in output if line.startswith(prefix))
    errors = ended.stderr.decode("utf-8", "replace").splitlines()
    is_connected = bool(lines) or any(line.startswith(prefix) for line in errors)
    own = [line.strip() for line in errors if not line.startswith(prefix)]
    error = _error(ended.exit_code, own, is_connected=is_connected)
    return ScriptResult(lines=lines, exit_code=ended.exit_code, error=error)


def wrapped(script: str, mark: str) -> str:
    """`script` as one compound command, which bash reads to its end before it runs any of it."""
    # Without the braces, a command in the script that reads stdin would consume the rest of it.
    return f"{{\nreport() {{ printf '%s %s\\n' '{mark}' \"$1\"; }}\n{script}\n}} </dev/null\n"


def _error(exit_code: int, errors: Sequence[str], *, is_connected: bool) -> str:
    if exit_code == 0:
        return ""
    text = " / ".join([line for line in errors if line][-_LAST_LINES:])
    if exit_code == SSH_FAILED and not is_connected:
        return f"cannot be reached: {text or 'ssh gave no reason'}"
    return text or f"exit code {exit_code}"


Item = TypeVar("Item")
Out = TypeVar("Out")


def in_parallel(work: Callable[[Item], Out], items: Sequence[Item]) -> list[Out]:
    """`work(item)` of all items at once, in the order of the items."""
    with ThreadPoolExecutor(max_workers=_MAX_PARALLEL) as pool:
        return list(pool.map(work, items))
