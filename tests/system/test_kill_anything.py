"""SIGKILL of any process of a sweep at any moment, then the same command: the numbers stay."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from support.commands import MarkedCommand, command_line, replicate

from merge.files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

NUM_KILLS = 50
LONGEST_WAIT_S = 5.0
LONGEST_WAIT_IN_TRAINING_S = 2.0
SEED = int(os.environ.get("PAPERGRID_TEST_SEED", "20261121"))

_SETTINGS = {
    "epochs": 2,
    "episodes_per_epoch": 8,
    "global_batch": 4,
    "image_size": 65,
    "test_episodes": 5,
    "num_panels": 0,
    "checkpoint_every_steps": 1,
}
TINY = (
    *("run", "--study", "demo", "--shots", "1", "--folds", "0", "1"),
    *("--devices", "cpu:2", "--devices-per-run", "2", "--max-retries", "0"),
    *(word for key, value in _SETTINGS.items() for word in ("--set", f"{key}={value}")),
    "--output-dir",
)


def numbers(output: Path) -> dict[str, object]:
    """Everything in a sweep's results that must not depend on what was killed."""
    merged = read_json(output / "replication_results.json")["results"]
    per_run = {}
    for path in sorted(output.glob("*/fold*/result.json")):
        result = read_json(path)
        per_run[str(path.relative_to(output))] = (
            result["metrics"],
            result["details"]["final"],
            result["details"]["best"],
            result["details"]["untrained"],
            result["details"]["history"],
        )
    return {"merged": merged, "runs": per_run}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, dict[str, object]]:
    """A folder with a warm cache, and the numbers of a sweep that nobody killed."""
    folder = tmp_path_factory.mktemp("sweeps")
    done = replicate(*TINY, "reference", cwd=folder, env=_environment(folder))
    assert done.returncode == 0, done.stderr
    return folder, numbers(folder / "reference")


def _environment(folder: Path) -> dict[str, str]:
    return {"PAPERGRID_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def test_fifty_kills_change_no_number(undisturbed):
    folder, expected = undisturbed
    print(f"seed {SEED} (set PAPERGRID_TEST_SEED to repeat another)")
    chance = random.Random(SEED)
    kills: list[str] = []
    sweeps = 0
    while len(kills) < NUM_KILLS:
        sweeps += 1
        output = f"disturbed{sweeps}"
        command = MarkedCommand([*TINY, output], cwd=folder, env=_environment(folder))
        kills += _disturb_until_done(command, folder / "log.txt", chance, NUM_KILLS - len(kills))
        assert numbers(folder / output) == expected
    print(f"{len(kills)} kills in {sweeps} sweeps:", *kills, sep="\n  ")
    assert {kind.split()[0] for kind in kills} >= {"replicate", "guard", "torchrun", "rank"}


def _disturb_until_done(
    command: MarkedCommand, log: Path, chance: random.Random, most: int
) -> list[str]:
    """Run `command` again and again until it is done, killing up to `most` of its processes."""
    kills: list[str] = []
    for _ in range(200):
        process = command.start(log)
        while process.poll() is None:
            if len(kills) < most:
                _wait_for_a_moment(process, command.cwd, chance)
            else:
                process.wait(600)
            victims = command.processes() if len(kills) < most else []
            if process.poll() is None and victims:
                victim = chance.choice(victims)
                kills.append(f"{_kind(victim, process.pid)} ({len(victims)} were alive)")
                os.kill(victim, signal.SIGKILL)
        if process.returncode == 0:
            _assert_nothing_left(command)
            return kills
    pytest.fail(f"not done after 200 starts; {log.read_text()[-4000:]}")


def _wait_for_a_moment(process, folder: Path, chance: random.Random) -> None:
    """A random moment; every other time one at which a training has begun to write events."""
    if chance.random() < 0.5:
        _wait(process, chance.uniform(0, LONGEST_WAIT_S))
        return
    newest = max(_event_times(folder), default=0.0)
    _wait(process, 30, until=lambda: max(_event_times(folder), default=0.0) > newest)
    _wait(process, chance.uniform(0, LONGEST_WAIT_IN_TRAINING_S))


def _event_times(folder: Path) -> list[float]:
    return [path.stat().st_mtime for path in folder.glob("disturbed*/*/*/attempts/*/events.jsonl")]


def _wait(process, seconds: float, until=lambda: False) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline and not until():
        time.sleep(0.02)


def _kind(pid: int, executor: int) -> str:
    words = command_line(pid)
    if pid == executor:
        return "replicate"
    if "guard.py" in words:
        return "guard"
    if "torch.distributed.run" in words:
        return "torchrun"
    return "rank" if "experiments.fewshot" in words else f"other {words[:60]}"


def _assert_nothing_left(command: MarkedCommand) -> None:
    deadline = time.monotonic() + 10
    while command.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [command_line(pid) for pid in command.processes()] == []
