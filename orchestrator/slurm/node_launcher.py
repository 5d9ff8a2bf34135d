"""On each node of a run on several nodes: starts torchrun, and passes on the request to stop.

srun starts `python -m orchestrator.slurm.node_launcher COMMAND...` with the environment of the run
contract. The executor runs on the first node only. From there a request to stop arrives as a file,
and the death of the executor shows in its claim: ranks without an owner are killed.
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
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.paths import RunPaths
from orchestrator.machine.guard import TOKEN, initial_environment, marked_processes
from orchestrator.machine.owners import parent_of
from orchestrator.runs.claims import last_claim

_POLL_S = 0.5
_POLLS_PER_CLAIM_CHECK = 10
_NO_OWNER_EXIT_CODE = 1


class Ownership:
    """Whether the executor still owns the run: its claim is the newest, alive and not released."""

    def __init__(self, paths: RunPaths, token: str, clock: Clock = SYSTEM_CLOCK) -> None:
        self._paths = paths
        self._token = token
        self._clock = clock
        self._heartbeat = 0.0
        self._seen = clock.monotonic()

    def is_lost(self) -> bool:
        """Read the claim. An unreadable file is no proof of a lost owner; long silence is."""
        with suppress(RecordError):
            claim = last_claim(self._paths)
            if claim and (claim.token != self._token or claim.released):
                return True
            if claim and claim.heartbeat != self._heartbeat:
                self._heartbeat, self._seen = claim.heartbeat, self._clock.monotonic()
        # By this node's own clock, since the heartbeat last changed. Twice the expiry: NFS may show
        # a heartbeat half a minute late.
        return self._clock.monotonic() - self._seen > 2 * EXPIRY_S


def main(command: Sequence[str]) -> int:
    """Run `command` to its end and return its exit code."""
    # SLURM sends it to every process of the step; the executor alone handles it. An ignored signal
    # stays ignored in torchrun and the ranks, which inherit this.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    # SLURM ends a step with SIGTERM to all its processes. torchrun gets it too and ends the ranks;
    # this process must survive until then. A handler, not SIG_IGN: the ranks would inherit that.
    signal.signal(signal.SIGTERM, _do_nothing)
    run = RunPaths(Path(os.environ["PAPERGRID_RUN_DIR"]))
    stop = run.attempt(int(os.environ["PAPERGRID_ATTEMPT"])).stop
    token = os.environ[TOKEN]
    agent = subprocess.Popen(command)
    try:
        return _watch(agent, token, stop, Ownership(run, token))
    finally:
        _kill_ranks(token)
        agent.kill()
        agent.wait()


def _watch(agent: subprocess.Popen[bytes], token: str, stop: Path, owner: Ownership) -> int:
    signalled: set[int] = set()
    polls = 0
    while (code := agent.poll()) is None:
        polls += 1
        if polls % _POLLS_PER_CLAIM_CHECK == 0 and owner.is_lost():
            print("the run has lost its owner: its ranks on this node are killed", file=sys.stderr)
            return _NO_OWNER_EXIT_CODE
        if _exists(stop):
            # Ranks only. Not torchrun, which would kill them after 30 s, and not their loaders,
            # which they need until the checkpoint is written.
            for pid in _ranks(token):
                if parent_of(pid) == agent.pid and pid not in signalled:
                    signalled.add(pid)
                    _send_signal(pid, signal.SIGTERM)
        time.sleep(_POLL_S)
    return code if code >= 0 else 128 - code


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Handler of a signal that must neither end this process nor be ignored by its children."""


def _exists(path: Path) -> bool:
    # open(), not stat(): NFS may cache for half a minute that a file is absent.
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _ranks(token: str) -> list[int]:
    """Process ids of the ranks on this node, and of their data loaders."""
    return [
        pid
        for pid in marked_processes(TOKEN, token)
        if b"\0LOCAL_RANK=" in initial_environment(pid)
    ]


def _kill_ranks(token: str) -> None:
    while found := _ranks(token):
        for pid in found:
            _send_signal(pid, signal.SIGKILL)
        time.sleep(0.01)


def _send_signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
