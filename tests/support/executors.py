"""Executors in processes of their own, and what is seen of them from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from merge.records.sweep import Run, Sweep
from orchestrator.local.events import LocalReport, RunEvent, RunsCompleted
from orchestrator.local.executor import LocalSettings, run_local
from orchestrator.local.listeners import Listeners
from orchestrator.machine.devices import Devices
from orchestrator.machine.guard import kill_marked

DRIVER = Path(__file__).with_name("drive_executor.py")
PATIENCE_S = 60.0
"""Of whoever waits for what comes for certain: a busy machine is no failure."""


class Executor:
    """A running `drive_executor.py`."""

    def __init__(self, output: Path, *words: str) -> None:
        self.log = output.parent / f"executor-{time.monotonic_ns()}.log"
        self._file = self.log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), str(output), *words],
            stdin=subprocess.DEVNULL,
            stdout=self._file,
            stderr=self._file,
        )

    @property
    def told(self) -> str:
        return self.log.read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    def wait_for(self, words: str) -> None:
        wait_until(lambda: words in self.told, f"{words!r} in what the executor tells")

    def children(self) -> list[int]:
        """Ids of the processes that this executor started itself."""
        return children_of(self.process.pid)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._file.close()


@contextmanager
def executor(output: Path, *words: str) -> Iterator[Executor]:
    """An executor on the plan in `output`, that does not outlive the block."""
    started = Executor(output, *words)
    try:
        yield started
    finally:
        started.close()


def run_here(
    sweep: Sweep,
    output: Path,
    *,
    slots: int = 1,
    events: list[RunEvent] | None = None,
    on_completion: Callable[[Sequence[Run]], object] | None = None,
    **settings: object,
) -> LocalReport:
    """`run_local` with all runs of `sweep` on `slots` CPU slots, in this process.

    `on_completion` gets the runs of each `RunsCompleted`.
    """
    devices = Devices(kind="cpu", slots=tuple(f"cpu{index}" for index in range(slots)))
    local = LocalSettings(**{"devices": devices, "cache_dir": output / "cache", **settings})
    seen: list[RunEvent] = [] if events is None else events
    listeners = Listeners([seen.append])
    if on_completion:
        listeners.add(
            lambda event: on_completion(event.runs) if isinstance(event, RunsCompleted) else None
        )
    return run_local(sweep, sweep.runs, output, local, listeners.publish)


def wait_until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Return as soon as `condition()` holds; AssertionError naming `what` if it never does."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s} s in vain for {what}"
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    """Ids of the living children of `pid`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _stat(folder)
            if fields and int(fields[1]) == pid and fields[0] not in "ZX":
                found.append(int(folder.name))
    return found


@contextmanager
def marked(name: str = "PAPERGRID_CONFIG_MARK") -> Iterator[str]:
    """A value of the variable `name` that no other process has; what still has it is killed."""
    value = f"test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        yield value
    finally:
        kill_marked(name, value)


def _stat(folder: Path) -> list[str]:
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
