"""Four servers push into one place through a bad network, killed and restarted at random."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.bucket_trees import objects, sha256_stored, write_output
from support.commands import replicate
from support.fault_proxy import FaultProxy
from support.grids import make_grid
from support.s3_server import BUCKET, environment, ministack

from merge.sweep import Run

pytestmark = pytest.mark.system

PUSHERS = 4
RUNS_EACH = 100
CHECKPOINT_BYTES = int(os.environ.get("PAPERGRID_TEST_CHECKPOINT_BYTES", "300000"))
"""Small in CI, where moving 2 GB would be most of the suite's time; 5_000_000 was measured too."""
KILLS_EACH = 3


@pytest.mark.timeout(600)
def test_four_killed_pushers_leave_every_result_and_no_wrong_byte(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    sweep = make_grid(cells=[f"cell{number}" for number in range(PUSHERS * RUNS_EACH // 4)])
    outputs = [
        write_output(tmp_path / f"server{index}", sweep, runs, size=CHECKPOINT_BYTES)
        for index, runs in enumerate(_shares(sweep.runs))
    ]
    env = environment(tmp_path)
    with (
        ministack(tmp_path / "s3") as server,
        FaultProxy(server.endpoint, seed, share=0.02).serving() as proxy,
    ):
        _push_all(outputs, proxy, env, tmp_path, random.Random(seed))
        print(dict(proxy.counts), len(proxy.requests))
        assert sum(proxy.counts.values()) > 0
        for output in outputs:
            again = replicate(
                "sync",
                "verify",
                output,
                f"s3://{BUCKET}/grid",
                *server.flags,
                cwd=tmp_path,
                env=env,
            )
            assert again.returncode == 0, again.stdout + again.stderr
        client = server.client()
        stored = objects(client, "grid")
        for output in outputs:
            for path in output.rglob("*.pt"):
                name = path.relative_to(output).as_posix()
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                assert hashlib.sha256(stored[name]).hexdigest() == digest
                assert sha256_stored(client, f"grid/{name}") == digest
        merged = json.loads(stored["replication_results.json"])
        cells = merged["results"]
        assert sum(cell["n"] for cell in cells.values()) == PUSHERS * RUNS_EACH
        assert all(cell["complete"] for cell in cells.values())


def _shares(runs: tuple[Run, ...]) -> list[tuple[Run, ...]]:
    """Every fold of a cell on another server, so that no merge is right without all of them."""
    return [runs[index::PUSHERS] for index in range(PUSHERS)]


def _push_all(
    outputs: list[Path], proxy: FaultProxy, env: dict[str, str], cwd: Path, dice: random.Random
) -> None:
    kills = dict.fromkeys(outputs, KILLS_EACH)
    living = {output: _start(output, proxy, env, cwd) for output in outputs}
    due = {output: time.monotonic() + dice.uniform(0.5, 4.0) for output in outputs}
    while living:
        time.sleep(0.05)
        for output, process in list(living.items()):
            if process.poll() == 0:
                del living[output]
            elif process.poll() is not None:
                assert process.returncode in (75, -signal.SIGKILL), _log(cwd, output)
                living[output] = _start(output, proxy, env, cwd)
            elif kills[output] and time.monotonic() > due[output]:
                kills[output] -= 1
                due[output] = time.monotonic() + dice.uniform(0.5, 4.0)
                process.kill()
                process.wait()


def _start(
    output: Path, proxy: FaultProxy, env: dict[str, str], cwd: Path
) -> subprocess.Popen[bytes]:
    words = ["sync", "push", str(output), f"s3://{BUCKET}/grid", *proxy.flags]
    with (cwd / f"{output.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "replicate.cli", *words, "--max-concurrency", "4"],
            cwd=cwd,
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
        )


def _log(cwd: Path, output: Path) -> str:
    return (cwd / f"{output.name}.log").read_text()
