"""Processes of an attempt: started in an own session, asked to stop, and never left behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from merge.storage.atomic import storage_errors
from merge.storage.json_files import write_json_exclusive
from orchestrator.machine import guard
from orchestrator.machine.guard import (
    EXECUTOR,
    TOKEN,
    initial_environment,
    kill_marked,
    marked_processes,
)
from orchestrator.machine.launch import Launch
from orchestrator.machine.limits import is_shortage, shortage
from orchestrator.machine.owners import parent_of
from orchestrator.machine.watcher import Watcher

_log = logging.getLogger(__name__)


class Process:
    """A started command with all its descendants.

    `on_exit()` is called from another thread as soon as the command itself has ended; then
    `finish()` must be called. SystemLimitError where no process or thread is to be had now,
    StorageError where its logs cannot be created, another OSError where it cannot be started.
    """

    def __init__(
        self, launch: Launch, stdout: Path, stderr: Path, on_exit: Callable[[], None]
    ) -> None:
        self._token = launch.environment[TOKEN]
        self._has_agent = launch.has_agent
        self._stop_file = launch.stop_file
        self._signalled: set[int] = set()
        self._popen, self._watcher = start_watched(lambda: _start(launch, stdout, stderr), on_exit)

    def ask_to_stop(self) -> None:
        """Send SIGTERM to each process that has not got it yet. Call again: ranks may still start.

        Under torchrun only the ranks get it: torchrun itself would kill them after 30 s, and they
        need their data loaders until the checkpoint is written. Ranks on several nodes get the
        request through a file (slurm/node_launcher.py).
        """
        if self._stop_file:
            write_json_exclusive(self._stop_file, {})
            return
        for pid in self._ranks() if self._has_agent else [self._popen.pid]:
            if pid not in self._signalled:
                self._signalled.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the command with SIGKILL; `on_exit` is called as for any other end.

        srun gets SIGTERM: it makes SLURM kill the ranks on all nodes and then ends. After a SIGKILL
        of srun they would go on.
        """
        number = signal.SIGTERM if self._stop_file else signal.SIGKILL
        os.kill(self._popen.pid, number)

    def finish(self) -> tuple[int, list[int]]:
        """Kill all processes that the ended command left behind.

        Returns its exit code as in a shell (128 + signal), and the ids of processes that survived
        even SIGKILL.
        """
        # The command is still a zombie (see `watch`): the kernel cannot have reused its group id.
        os.killpg(self._popen.pid, signal.SIGKILL)
        survivors = self._kill_rest()
        self._watcher.join()
        code = self._popen.wait()
        return (code if code >= 0 else 128 - code), survivors

    def _kill_rest(self) -> list[int]:
        try:
            return kill_marked(TOKEN, self._token)
        except OSError as error:
            # Its group is dead. What has left that group is killed at the end of the executor.
            _log.warning("cannot look for processes that are left over: %s", error.strerror)
            return []

    def _ranks(self) -> list[int]:
        return [
            pid
            for pid in marked_processes(TOKEN, self._token)
            if parent_of(pid) == self._popen.pid and b"\0LOCAL_RANK=" in initial_environment(pid)
        ]


class Guardian:
    """Runs a guard process, which kills the processes of this one after its death (guard.py).

    `on_death()` is called from another thread when the guard itself has died: call `restart()`.
    SystemLimitError where no process or thread is to be had now.
    """

    def __init__(self, marker: str, on_death: Callable[[], None]) -> None:
        self._marker = marker
        self._on_death = on_death
        self._is_closed = False
        self._popen: subprocess.Popen[bytes] | None = None
        self._start()

    def restart(self) -> None:
        """Start a new guard after the old one died."""
        self._end_guard()
        self._start()

    def close(self) -> None:
        """End the guard: no process is left that it would have to kill."""
        self._is_closed = True
        self._end_guard()

    def _start(self) -> None:
        # With markers that this process inherited, the guard of an outer executor, or the end of an
        # outer attempt, would kill this guard before the processes that it guards.
        environment = {k: v for k, v in os.environ.items() if k not in (EXECUTOR, TOKEN)}
        self._popen, self._watcher = start_watched(
            lambda: self._start_guard(environment), self._report_death
        )

    def _start_guard(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            # -I -S: neither site-packages nor the person's environment can break or slow its start.
            [sys.executable, "-I", "-S", guard.__file__, self._marker],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _report_death(self) -> None:
        if not self._is_closed:
            self._on_death()

    def _end_guard(self) -> None:
        popen, self._popen = self._popen, None
        # None where no new one could be started after the death of the last one.
        if popen is None:
            return
        assert popen.stdin is not None
        # One byte means: end without killing. A guard that already died needs none.
        with suppress(BrokenPipeError), popen.stdin as pipe:
            pipe.write(b"q")
        self._watcher.join()
        popen.wait()


def _start(launch: Launch, stdout: Path, stderr: Path) -> subprocess.Popen[bytes]:
    with ExitStack() as files:
        with storage_errors(stdout):
            out, err = (files.enter_context(path.open("wb")) for path in (stdout, stderr))
        return subprocess.Popen(
            launch.argv,
            env=launch.environment,
            cwd=launch.cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def start_watched(
    start: Callable[[], subprocess.Popen[bytes]], on_exit: Callable[[], None]
) -> tuple[subprocess.Popen[bytes], Watcher]:
    """The process that `start()` starts, with the watcher of its end."""
    watcher = Watcher(on_exit)
    try:
        popen = start()
    except BaseException as error:
        watcher.cancel()
        if isinstance(error, OSError) and is_shortage(error):
            raise shortage("a process", error) from error
        raise
    watcher.watch(popen.pid)
    return popen, watcher
