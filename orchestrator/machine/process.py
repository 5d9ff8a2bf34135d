"""Processes of an attempt: started in an own session, asked to stop, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
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
from orchestrator.machine.owners import parent_of


class Process:
    """A started command with all its descendants. OSError where it cannot be started.

    `on_exit()` is called from another thread as soon as the command itself has ended; then
    `finish()` must be called.
    """

    def __init__(
        self, launch: Launch, stdout: Path, stderr: Path, on_exit: Callable[[], None]
    ) -> None:
        self._token = launch.environment[TOKEN]
        self._has_agent = launch.has_agent
        self._stop_file = launch.stop_file
        self._signalled: set[int] = set()
        with storage_errors(stdout):
            out, err = stdout.open("wb"), stderr.open("wb")
        with out, err:
            self._popen = subprocess.Popen(
                launch.argv,
                env=launch.environment,
                cwd=launch.cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self._watcher = watch(self._popen.pid, on_exit)

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
        survivors = kill_marked(TOKEN, self._token)
        self._watcher.join()
        code = self._popen.wait()
        return (code if code >= 0 else 128 - code), survivors

    def _ranks(self) -> list[int]:
        return [
            pid
            for pid in marked_processes(TOKEN, self._token)
            if parent_of(pid) == self._popen.pid and b"\0LOCAL_RANK=" in initial_environment(pid)
        ]


class Guardian:
    """Runs a guard process, which kills the processes of this one after its death (guard.py).

    `on_death()` is called from another thread when the guard itself has died: call `restart()`.
    """

    def __init__(self, marker: str, on_death: Callable[[], None]) -> None:
        self._marker = marker
        self._on_death = on_death
        self._is_closed = False
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
        self._popen = subprocess.Popen(
            # -I -S: neither site-packages nor the person's environment can break or slow its start.
            [sys.executable, "-I", "-S", guard.__file__, self._marker],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._watcher = watch(self._popen.pid, self._report_death)

    def _report_death(self) -> None:
        if not self._is_closed:
            self._on_death()

    def _end_guard(self) -> None:
        assert self._popen.stdin is not None
        # One byte means: end without killing. A guard that already died needs none.
        with suppress(BrokenPipeError), self._popen.stdin as pipe:
            pipe.write(b"q")
        self._watcher.join()
        self._popen.wait()


def watch(pid: int, on_exit: Callable[[], None]) -> threading.Thread:
    """Call `on_exit()` from a new thread when the child `pid` has ended; it stays a zombie."""

    def wait() -> None:
        # WNOWAIT: as a zombie it keeps its id, so that `finish` cannot kill a foreign group.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        on_exit()

    thread = threading.Thread(target=wait, name=f"watch-{pid}", daemon=True)
    thread.start()
    return thread
