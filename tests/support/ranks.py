"""Starting trainers and small rank programs as real processes, by the run contract."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class TrialRun:
    """A run folder with its run.json, and the attempts that a test starts on it."""

    folder: Path
    cache: Path

    def write_spec(self, config: Mapping[str, Any]) -> TrialRun:
        self.folder.mkdir(parents=True)
        spec = {"schema": 1, "run_id": "trial", "config": dict(config), "config_hash": "c0ffee"}
        (self.folder / "run.json").write_text(json.dumps(spec))
        return self

    def attempt(self, number: int) -> Path:
        return self.folder / "attempts" / f"{number:04d}"

    def environment(self, number: int) -> dict[str, str]:
        return {
            "PAPERGRID_RUN_DIR": str(self.folder),
            "PAPERGRID_RUN_SPEC": str(self.folder / "run.json"),
            "PAPERGRID_ATTEMPT_DIR": str(self.attempt(number)),
            "PAPERGRID_DEVICE": "cpu",
            "PAPERGRID_CACHE_DIR": str(self.cache),
        }

    def start(self, number: int, world_size: int, *words: str, **more: str) -> Ranks:
        """Start attempt `number` of `words`, by default the few-shot trainer."""
        self.attempt(number).mkdir(parents=True, exist_ok=True)
        log = self.attempt(number) / "output.log"
        environment = {**self.environment(number), **more}
        return start_ranks(
            words or ("-m", "experiments.runtime", "fewshot"), world_size, environment, log
        )

    def finish(self, number: int, world_size: int) -> dict[str, Any]:
        """Run an attempt to its end; its result."""
        ranks = self.start(number, world_size)
        assert ranks.wait() == 0, ranks.output()
        return self.result(number)

    def result(self, number: int) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.attempt(number) / "result.json").read_text())
        return result

    def error(self, number: int) -> dict[str, Any]:
        error: dict[str, Any] = json.loads((self.attempt(number) / "error.json").read_text())
        return error

    def events(self, number: int) -> list[dict[str, Any]]:
        path = self.attempt(number) / "events.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    def has_event(self, number: int, event: str, **fields: int) -> bool:
        return any({"event": event, **fields}.items() <= e.items() for e in self.events(number))

    def last_checkpoint(self) -> dict[str, Any]:
        path = self.folder / "checkpoints" / "last.pt"
        state: dict[str, Any] = torch.load(path, weights_only=True)
        return state


@dataclass(frozen=True)
class Ranks:
    """A started torchrun, or a single process, in a session of its own."""

    process: subprocess.Popen[bytes]
    log: Path
    has_agent: bool

    def wait(self, timeout_s: float = 90) -> int:
        try:
            return self.process.wait(timeout_s)
        finally:
            self.kill()

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def pids(self) -> list[int]:
        """The ranks' process ids, in the order in which they were started."""
        if not self.has_agent:
            return [self.process.pid]
        agent = self.process.pid
        children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        return [int(pid) for pid in children]

    def signal_ranks(self, number: signal.Signals) -> None:
        for pid in self.pids():
            os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL to the agent and all ranks, which are in sessions of their own."""
        if self.process.poll() is None:
            for pid in [self.process.pid, *self.pids()]:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            self.process.wait()


def start_ranks(
    words: Sequence[str], world_size: int, environment: Mapping[str, str], log: Path
) -> Ranks:
    """Start `python words` once, or under torchrun with `world_size` ranks."""
    agent = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}"]
    prefix = agent if world_size > 1 else []
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *prefix, *words],
            cwd=ROOT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Ranks(process, log, has_agent=world_size > 1)


def wait_until(condition: Callable[[], bool], ranks: Ranks, timeout_s: float = 60) -> None:
    """Poll until `condition()`; fail with the ranks' output if they end or time runs out."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert ranks.process.poll() is None, ranks.output()
        assert time.monotonic() < deadline, ranks.output()
        time.sleep(0.01)
