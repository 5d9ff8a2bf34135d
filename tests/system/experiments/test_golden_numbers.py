"""Two small trainings whose numbers are frozen: a refactoring of the trainers may not change them.

`tests/golden/*.json` holds the configuration and the numbers. What follows from integers and seeds
alone is compared exactly: the episodes of each epoch, the test list, the number of episodes by
class. Losses and pixel counts depend on the CPU: other vector instructions (ATEN_CPU_CAPABILITY,
ONEDNN_MAX_CPU_ISA, MKL_ENABLE_INSTRUCTIONS) sum in another order. From SSE to AVX-512, with one and
two threads, losses moved by at most 2e-7 of their value and counts by at most one pixel; the
tolerances leave five times that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.ranks import ROOT, TrialRun

from experiments.fewshot.episodes.bam import episode_list_hash
from experiments.fewshot.episodes.lists import train_list
from experiments.fewshot.episodes.protocols import build_split
from experiments.fewshot.episodes.source import open_source

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

GOLDEN = ROOT / "tests" / "golden"
LOSS_TOLERANCE = 1e-6
PIXEL_TOLERANCE = 5


def numbers_of(result: dict[str, Any]) -> dict[str, Any]:
    """What of a result is frozen."""
    details = result["details"]
    return {
        "metrics": result["metrics"],
        "history": details["history"],
        "counts": {name: details[name]["counts"] for name in ("untrained", "best", "final")},
        "test_list_hash": details["episode_list_hash"],
    }


def train_list_hashes(config: dict[str, Any], cache: Path) -> list[str]:
    """The hash of the training episodes of each epoch."""
    source = open_source(config["dataset"], None, cache)
    split = build_split(source, config["protocol"], config["fold"], "train")
    return [
        episode_list_hash(
            train_list(
                split,
                shot=config["shot"],
                num_episodes=config["episodes_per_epoch"],
                seed=config["seed"],
                epoch=epoch,
            )
        )
        for epoch in range(config["epochs"])
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("name", ["prototype", "abcb"])
def test_two_epochs_give_the_frozen_numbers(tmp_path, cache, name):
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    run = TrialRun(tmp_path / "run", cache).write_spec(golden["config"])
    ranks = run.start(1, golden["world_size"])
    assert ranks.wait(timeout_s=250) == 0, ranks.output()
    found = numbers_of(run.result(1))
    assert train_list_hashes(golden["config"], run.cache) == golden["train_list_hashes"]
    assert found["test_list_hash"] == golden["test_list_hash"]
    history = {"loss": LOSS_TOLERANCE, "miou": 1e-3, "fb_iou": 1e-3, "epoch": 0}
    assert len(found["history"]) == len(golden["history"])
    for ours, frozen in zip(found["history"], golden["history"], strict=True):
        assert list(ours) == list(frozen)
        for key, value in frozen.items():
            assert ours[key] == pytest.approx(value, rel=history[key]), (key, ours["epoch"])
    assert found["metrics"] == pytest.approx(golden["metrics"], rel=1e-3)
    for evaluation, columns in golden["counts"].items():
        ours = found["counts"][evaluation]
        assert list(ours) == list(columns)
        for exact in ("class_ids", "episodes"):
            assert ours[exact] == columns[exact]
        for column, values in columns.items():
            assert ours[column] == pytest.approx(values, rel=0, abs=PIXEL_TOLERANCE), column
