"""On each node of a run that is spread over several: starts torchrun, asks its ranks to stop.

python -m orchestrator.slurm.node_launcher COMMAND..., started by srun with the run contract's
environment. The executor is on the first node; here its request to stop is read from a file, and
its death from its claim: ranks that nobody owns any more are killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from merge.errors import RecordError
from merge.records.records import EXPIRY_S
from merge.storage.paths import RunPaths
from orchestrator.machine.guard import TOKEN, initial_environment, marked_processes
from orchestrator.machine.owners import parent_of
from orchestrator.runs.claims import last_claim

_POLL_S = 0.5
_LOOK_AT_CLAIM_EVERY = 10
_OWNERLESS = 1


class Ownership:
    """Whether the executor still has the run: its claim is the highest, alive and not released."""

    def __init__(self, paths: RunPaths, token: str) -> None:
        self._paths = paths
        self._token = token
        self._heartbeat = 0.0
        self._seen = time.monotonic()

    def is_lost(self) -> bool:
        """Look now. A file that cannot be read is no proof; long silence is."""
        with suppress(RecordError):
            claim = last_claim(self._paths)
            if claim and (claim.token != self._token or claim.released):
                return True
            if claim and claim.heartbeat != self._heartbeat:
                self._heartbeat, self._seen = claim.heartbeat, time.monotonic()
        return time.monotonic() - self._seen > 2 * EXPIRY_S


def main(command: Sequence[str]) -> int:
    """Run `command` to its end and return its exit code."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        asked.append(number)

    # SLURM ends a step with SIGTERM to all its processes; torchrun then ends the ranks.
    signal.signal(signal.SIGTERM, note)
    run = RunPaths(Path(os.environ["PAPERGRID_RUN_DIR"]))
    stop = run.attempt(int(os.environ["PAPERGRID_ATTEMPT"])).stop
    token = os.environ[TOKEN]
    agent = subprocess.Popen(command)
    try:
        return _attend(agent, token, stop, Ownership(run, token))
    finally:
        _kill_ranks(token)
        agent.kill()
        agent.wait()


def _attend(agent: subprocess.Popen[bytes], token: str, stop: Path, owner: Ownership) -> int:
    told: set[int] = set()
    looks = 0
    while (code := agent.poll()) is None:
        looks += 1
        if looks % _LOOK_AT_CLAIM_EVERY == 0 and owner.is_lost():
            print("nobody owns this run any more: its ranks here are killed", file=sys.stderr)
            return _OWNERLESS
        if _is_there(stop):
            for pid in _ranks(token):
                if parent_of(pid) == agent.pid and pid not in told:
                    told.add(pid)
                    _send(pid, signal.SIGTERM)
        time.sleep(_POLL_S)
    return code if code >= 0 else 128 - code


def _is_there(path: Path) -> bool:
    # Opened, not asked for: NFS may remember for half a minute that a file is absent.
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _ranks(token: str) -> list[int]:
    """Ids of the ranks on this node, and of their loaders."""
    return [
        pid
        for pid in marked_processes(TOKEN, token)
        if b"\0LOCAL_RANK=" in initial_environment(pid)
    ]


def _kill_ranks(token: str) -> None:
    while found := _ranks(token):
        for pid in found:
            _send(pid, signal.SIGKILL)
        time.sleep(0.01)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
