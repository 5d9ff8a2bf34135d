"""SIGKILL of any process of a sweep at any moment, then the same command: the numbers stay."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.commands import MarkedCommand, command_line, replicate

from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

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
_WALK = """
import json, os, pathlib, time
run, attempt = (pathlib.Path(os.environ[f"PAPERGRID_{name}_DIR"]) for name in ("RUN", "ATTEMPT"))
fold = int(os.environ["PAPERGRID_CONFIG_FOLD"])
def write(path, value):
    path.with_suffix(".part").write_text(json.dumps(value))
    path.with_suffix(".part").replace(path)
saved = run / "walk.json"
history = json.loads(saved.read_text()) if saved.exists() else [fold]
while len(history) < 25:
    time.sleep(0.04)
    history.append((history[-1] * 6364136223846793005 + 1442695040888963407) % 2**64)
    write(saved, history)
    with (attempt / "events.jsonl").open("a") as events:
        print(json.dumps({"time": time.time(), "event": "step", "step": len(history)}), file=events)
metrics = {"miou": history[-1] / 2**64}
write(attempt / "result.json", {"metrics": metrics, "details": {"history": history}})
"""
_STUDY = """
name: walk
command: [PYTHON, walk.py]
axes: {fold: [0, 1, 2, 3, 4, 5]}
average_over: fold
metric: miou
cell: walk
run_path: "walk/fold{fold}"
"""


@dataclass(frozen=True)
class Sweep:
    """What is disturbed, and how."""

    words: tuple[str, ...]
    """Of the command, up to the name of the output folder."""
    num_kills: int
    longest_wait_s: float
    kinds: frozenset[str]
    """What must have been killed at least once."""


TRAININGS = Sweep(
    words=(
        *("run", "--study", "demo", "--backbones", "efficientnet_lite0", "--shots", "1"),
        *("--devices", "cpu:2", "--devices-per-run", "2", "--max-retries", "0"),
        *(word for key, value in _SETTINGS.items() for word in ("--set", f"{key}={value}")),
        "--output-dir",
    ),
    num_kills=18,
    longest_wait_s=5.0,
    kinds=frozenset({"replicate", "guard", "torchrun", "rank"}),
)
COMMANDS = Sweep(
    words=(
        *("run", "--study", "walk.yaml", "--devices", "cpu:2", "--max-retries", "0"),
        "--output-dir",
    ),
    num_kills=60,
    longest_wait_s=1.0,
    kinds=frozenset({"replicate", "guard", "command"}),
)


def numbers(output: Path) -> dict[str, object]:
    """Everything in a sweep's results that must not depend on what was killed."""
    merged = read_json(output / "replication_results.json")["results"]
    per_run = {}
    for path in sorted(output.glob("*/fold*/result.json")):
        result = read_json(path)
        per_run[str(path.relative_to(output))] = (
            result["metrics"],
            *(result["details"].get(key) for key in ("final", "best", "untrained", "history")),
        )
    return {"merged": merged, "runs": per_run}


def _environment(folder: Path) -> dict[str, str]:
    return {"PAPERGRID_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("sweep", [TRAININGS, COMMANDS], ids=["trainings", "commands"])
def test_kills_at_any_moment_change_no_number(sweep, tmp_path):
    (tmp_path / "walk.py").write_text(_WALK)
    (tmp_path / "walk.yaml").write_text(_STUDY.replace("PYTHON", sys.executable))
    done = replicate(*sweep.words, "reference", cwd=tmp_path, env=_environment(tmp_path))
    assert done.returncode == 0, done.stderr
    expected = numbers(tmp_path / "reference")
    assert expected["runs"]
    print(f"seed {SEED} (set PAPERGRID_TEST_SEED to repeat another)")
    chance = random.Random(SEED)
    kills: list[str] = []
    sweeps = 0
    while len(kills) < sweep.num_kills or not _kinds_in(kills) >= sweep.kinds:
        sweeps += 1
        output = f"disturbed{sweeps}"
        command = MarkedCommand([*sweep.words, output], cwd=tmp_path, env=_environment(tmp_path))
        most = max(1, sweep.num_kills - len(kills))
        kills += _disturb_until_done(command, sweep, chance, most)
        assert numbers(tmp_path / output) == expected
    print(f"{len(kills)} kills in {sweeps} sweeps:", *kills, sep="\n  ")


def _kinds_in(kills: list[str]) -> set[str]:
    return {kill.split()[0] for kill in kills}


def _disturb_until_done(
    command: MarkedCommand, sweep: Sweep, chance: random.Random, most: int
) -> list[str]:
    """Run `command` again and again until it is done, killing up to `most` of its processes."""
    kills: list[str] = []
    log = command.cwd / "log.txt"
    for _ in range(200):
        process = command.start(log)
        while process.poll() is None:
            if len(kills) < most:
                _wait_for_a_moment(process, command.cwd, sweep, chance)
            else:
                process.wait(600)
            victims = command.processes() if len(kills) < most else []
            if process.poll() is None and victims:
                kind, victim = _choose(victims, process.pid, kills, chance)
                # It may have ended by itself since: that is no kill.
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    kills.append(f"{kind} ({len(victims)} were alive)")
        if process.returncode == 0:
            _assert_nothing_left(command)
            return kills
    pytest.fail(f"not done after 200 starts; {log.read_text()[-4000:]}")


def _choose(
    victims: list[int], executor: int, kills: list[str], chance: random.Random
) -> tuple[str, int]:
    """A random process, of a kind that was not killed yet while there is one."""
    kinds = {victim: _kind(victim, executor) for victim in victims}
    killed = _kinds_in(kills)
    victim = chance.choice([pid for pid in victims if kinds[pid] not in killed] or victims)
    return kinds[victim], victim


def _wait_for_a_moment(process, folder: Path, sweep: Sweep, chance: random.Random) -> None:
    """A random moment; every other time one at which a training has begun to write events."""
    if chance.random() < 0.5:
        _wait(process, chance.uniform(0, sweep.longest_wait_s))
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
    if "walk.py" in words:
        return "command"
    return "rank" if "experiments.runtime" in words else f"other {words[:60]}"


def _assert_nothing_left(command: MarkedCommand) -> None:
    deadline = time.monotonic() + 60
    while command.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [command_line(pid) for pid in command.processes()] == []
