"""64 processes, 1,000 runs: each executed once while no owner dies, at least once when they do."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from merge.records.records import read_claim
from merge.records.result import read_result
from merge.storage.paths import RunPaths

pytestmark = pytest.mark.system

NUM_PROCESSES = 64
NUM_RUNS = 1000
DRIVER = Path(__file__).parent.parent.parent / "support" / "drive_claims.py"
PATIENCE_S = 250.0


def start(output: Path, number: int, *, hosts: int, expiry_s: float) -> subprocess.Popen[bytes]:
    words = (output, NUM_RUNS, f"host{number % hosts}", number, expiry_s)
    # Without site, so that 64 of them start in seconds.
    return subprocess.Popen(
        [sys.executable, "-S", str(DRIVER), *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(DRIVER.parents[2])},
    )


def wait(workers: list[subprocess.Popen[bytes]]) -> set[int]:
    deadline = time.monotonic() + PATIENCE_S
    try:
        return {worker.wait(deadline - time.monotonic()) for worker in workers}
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def executions(output: Path) -> Counter[str]:
    """Run -> how often it was executed."""
    names = (path.name for path in (output / "executed").glob("r*"))
    return Counter(name.partition(".")[0] for name in names)


def all_paths(output: Path) -> list[RunPaths]:
    return [RunPaths(output / f"r{number:04d}") for number in range(NUM_RUNS)]


def test_of_64_processes_each_of_1000_runs_is_executed_exactly_once(tmp_path):
    workers = [start(tmp_path, n, hosts=4, expiry_s=60) for n in range(NUM_PROCESSES)]
    assert wait(workers) == {0}
    counts = executions(tmp_path)
    assert len(counts) == NUM_RUNS
    assert set(counts.values()) == {1}
    hosts = set()
    for paths in all_paths(tmp_path):
        result = read_result(paths.result)
        assert (tmp_path / "executed" / f"{paths.root.name}.{result.token}").exists()
        assert paths.results_aside() == []
        hosts.add(read_claim(paths.claim(result.attempt)).owner.host)
    assert hosts == {"host0", "host1", "host2", "host3"}


def test_with_owners_killed_at_random_each_run_has_exactly_one_result(tmp_path):
    seed = int(os.environ.get("PAPERGRID_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"PAPERGRID_TEST_SEED={seed}")
    chance = random.Random(seed)
    workers = [start(tmp_path, n, hosts=4, expiry_s=5) for n in range(NUM_PROCESSES)]
    doomed = set(chance.sample(range(NUM_PROCESSES), NUM_PROCESSES // 2))
    while not (tmp_path / "executed").exists():
        time.sleep(0.01)
    for number in doomed:
        time.sleep(chance.random() * 0.1)
        workers[number].kill()
    living = [worker for number, worker in enumerate(workers) if number not in doomed]
    dead = [workers[number].wait() for number in doomed]
    assert -9 in dead
    assert wait(living) == {0}
    counts = executions(tmp_path)
    assert len(counts) == NUM_RUNS
    for paths in all_paths(tmp_path):
        token = read_result(paths.result).token
        assert (tmp_path / "executed" / f"{paths.root.name}.{token}").exists()
        # Executed again only where an owner died meanwhile: every execution has a claim of its own.
        assert counts[paths.root.name] <= len(paths.claim_numbers())
