"""Four servers push into one place through a bad network, killed and restarted at random."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bucket_trees import sha256_stored, write_output
from support.commands import replicate
from support.fault_proxy import FaultProxy
from support.grids import make_grid
from support.s3_server import BUCKET, environment, ministack

from merge.records.sweep import Run

pytestmark = pytest.mark.system

PUSHERS = 4
RUNS_EACH = 100
CHECKPOINT_BYTES = int(os.environ.get("PAPERGRID_TEST_CHECKPOINT_BYTES", "5000000"))
"""2 GB here and 2 GB in the store, removed afterwards; less for a machine without them."""
KILLS_EACH = 3


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder whose large files do not outlive the test."""
    yield tmp_path
    shutil.rmtree(tmp_path / "s3", ignore_errors=True)
    for checkpoint in tmp_path.rglob("*.pt"):
        checkpoint.unlink()


@pytest.mark.timeout(900)
def test_four_killed_pushers_leave_every_result_and_no_wrong_byte(room: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    sweep = make_grid(cells=[f"cell{number}" for number in range(PUSHERS * RUNS_EACH // 4)])
    outputs = [
        write_output(room / f"server{index}", sweep, runs, size=CHECKPOINT_BYTES)
        for index, runs in enumerate(_shares(sweep.runs))
    ]
    env = environment(room)
    with (
        ministack(room / "s3") as server,
        FaultProxy(server.endpoint, seed, share=0.02).serving() as proxy,
    ):
        _push_all(outputs, proxy, env, room, random.Random(seed))
        print(dict(proxy.counts), len(proxy.requests))
        assert sum(proxy.counts.values()) > 0
        for output in outputs:
            # The first reads every object, those of the other servers too.
            depth = [] if output is outputs[0] else ["--quick"]
            words = ("sync", "verify", output, f"s3://{BUCKET}/grid", *depth, *server.flags)
            verified = replicate(*words, cwd=room, env=env)
            assert verified.returncode == 0, verified.stdout + verified.stderr
        client = server.client()
        for output in outputs:
            for path in output.rglob("*.pt"):
                key = f"grid/{path.relative_to(output).as_posix()}"
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                assert sha256_stored(client, key) == digest
                assert hashlib.sha256(_object(client, key)).hexdigest() == digest
        merged = json.loads(_object(client, "grid/replication_results.json"))
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
            [sys.executable, "-m", "replicate.cli.main", *words, "--max-concurrency", "4"],
            cwd=cwd,
            env={**os.environ, **env},
            stdout=log,
            stderr=log,
        )


def _log(cwd: Path, output: Path) -> str:
    return (cwd / f"{output.name}.log").read_text()


def _object(client: Any, key: str) -> bytes:
    return bytes(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
