"""Processes of an attempt: started in a session of their own, stopped softly, never left behind."""

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

    `on_exit()` is called from a thread of its own as soon as the command itself has ended;
    `finish()` must follow then.
    """

    def __init__(
        self, launch: Launch, stdout: Path, stderr: Path, on_exit: Callable[[], None]
    ) -> None:
        self._token = launch.environment[TOKEN]
        self._has_agent = launch.has_agent
        self._stop_file = launch.stop_file
        self._asked: set[int] = set()
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
        """SIGTERM to each worker that has not had it yet: call again, workers may still start.

        Under torchrun these are the ranks: the agent would kill them, their loaders must live on.
        Those on several nodes are told through a file (see slurm_node.py).
        """
        if self._stop_file:
            write_json_exclusive(self._stop_file, {})
            return
        for pid in self._ranks() if self._has_agent else [self._popen.pid]:
            if pid not in self._asked:
                self._asked.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL the command; its end is told to `on_exit` as any other.

        srun has SLURM kill the ranks on all nodes, and ends after them: a SIGKILL would leave them.
        """
        number = signal.SIGTERM if self._stop_file else signal.SIGKILL
        os.kill(self._popen.pid, number)

    def finish(self) -> tuple[int, list[int]]:
        """Kill whatever the ended command left behind.

        Returns its exit code, as the shell counts, and the ids of what survived even SIGKILL.
        """
        # The command is not reaped yet, so its group's number cannot have become another's.
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
    """Keeps a guard process that outlives this one and kills what it leaves (see guard.py).

    `on_death()` is called from a thread when the guard itself has died: call `restart()`.
    """

    def __init__(self, marker: str, on_death: Callable[[], None]) -> None:
        self._marker = marker
        self._on_death = on_death
        self._is_dismissed = False
        self._start()

    def restart(self) -> None:
        """Start a new guard in the place of one that died."""
        self._farewell()
        self._start()

    def close(self) -> None:
        """Dismiss the guard: nothing is left to be guarded."""
        self._is_dismissed = True
        self._farewell()

    def _start(self) -> None:
        # A mark that this process itself inherited would have the guard killed with the guarded.
        environment = {k: v for k, v in os.environ.items() if k not in (EXECUTOR, TOKEN)}
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", guard.__file__, self._marker],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._watcher = watch(self._popen.pid, self._tell)

    def _tell(self) -> None:
        if not self._is_dismissed:
            self._on_death()

    def _farewell(self) -> None:
        assert self._popen.stdin is not None
        # What died already has no use for a farewell.
        with suppress(BrokenPipeError), self._popen.stdin as pipe:
            pipe.write(b"q")
        self._watcher.join()
        self._popen.wait()


def watch(pid: int, on_exit: Callable[[], None]) -> threading.Thread:
    """Call `on_exit()` from a new thread when the child `pid` has ended; leaves it unreaped."""

    def wait() -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        on_exit()

    thread = threading.Thread(target=wait, name=f"watch-{pid}", daemon=True)
    thread.start()
    return thread
