"""Stages of a training, with two gloo ranks: what trains, on which images, and resuming anywhere.

The experiment in two_stages/ trains its decoder for two epochs, then everything for two; each
rank writes what it sees at every step. An epoch has five steps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.ranks import TrialRun

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

FOLDER = Path(__file__).parent / "two_stages"
CONFIG = {"checkpoint_every_steps": 2, "ema_decay": 0.9, "clip_norm": 0.5}
STEPS = 5


def start(run: TrialRun, attempt: int, **more: str):
    return run.start(attempt, 2, "-m", "experiments.runtime", str(FOLDER), **more)


def steps_of(run: TrialRun, attempt: int, rank: int) -> list[dict[str, Any]]:
    """What a rank saw at each step: the state before it, and its images."""
    path = run.attempt(attempt) / f"steps{rank}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    run = TrialRun(root / "undisturbed", root / "cache").write_spec(CONFIG)
    ranks = start(run, 1)
    assert ranks.wait(200) == 0, ranks.output()
    return run


def test_a_frozen_part_rests_in_its_stage_and_trains_equally_on_all_ranks_in_the_next(undisturbed):
    ours, theirs = (steps_of(undisturbed, 1, rank) for rank in (0, 1))
    assert len(ours) == len(theirs) == 4 * STEPS
    for part in ("encoder", "decoder"):
        assert [step[part] for step in ours] == [step[part] for step in theirs]
    # The state before a step: that of the first step of the second stage is still the old one.
    first, second = ours[: 2 * STEPS + 1], ours[2 * STEPS :]
    assert len({step["encoder"] for step in first}) == 1
    assert len({step["statistics"] for step in first}) == 1
    assert len({step["encoder"] for step in second}) == len(second)
    assert len({step["statistics"] for step in second}) == len(second)
    assert len({step["decoder"] for step in ours}) == len(ours)


def test_images_change_their_size_in_the_very_epoch_that_is_set(undisturbed):
    """Epoch 2 begins the second stage; in epoch 3 the task's data are larger within the stage."""
    for rank in (0, 1):
        shapes = [tuple(step["shape"]) for step in steps_of(undisturbed, 1, rank)]
        sizes = [size for size in (8, 8, 12, 14) for _ in range(STEPS)]
        assert shapes == [(4, 1, size, size) for size in sizes]


def test_a_resolution_one_epoch_late_ends_the_run_before_its_first_step(tmp_path):
    run = TrialRun(tmp_path / "late", tmp_path / "cache").write_spec(CONFIG)
    ranks = start(run, 1, LATE="1")
    assert ranks.wait(200) != 0
    message = "epoch 3 is set to images of 14x14 pixels, but its first batch has 12x12"
    assert run.error(1)["message"].startswith(message)
    assert (run.error(1)["kind"], len(steps_of(run, 1, 0))) == ("config", 3 * STEPS)


def test_events_name_the_stage_and_its_learning_rate_begins_anew(undisturbed):
    events = undisturbed.events(1)
    assert events[0]["stage"] == "decoder"
    (begun,) = [event for event in events if event["event"] == "stage"]
    assert (begun["stage"], begun["epoch"], begun["epochs"]) == ("all", 2, 2)
    checkpoint = undisturbed.last_checkpoint()
    assert checkpoint["stage"] == "all"
    # One group of the second stage's SGD over all six tensors; rate of its last step but none left.
    (group,) = checkpoint["optimizer"]["param_groups"]
    assert len(group["params"]) == 6
    assert group["lr"] == pytest.approx(0.05 * (1 / 10) ** 0.9)


@pytest.mark.parametrize(
    ("moment", "first"),
    [
        ("forward 1 5", (1, "decoder")),
        ("metrics 1 1", (1, "decoder")),
        ("train_data 2 1", (2, "all")),
        ("forward 2 4", (2, "all")),
    ],
    ids=[
        "in the last step",
        "before the checkpoint",
        "after the checkpoint",
        "inside the next stage",
    ],
)
def test_a_run_killed_around_the_boundary_goes_on_bit_for_bit(tmp_path, undisturbed, moment, first):
    run = TrialRun(tmp_path / "killed", tmp_path / "cache").write_spec(CONFIG)
    ranks = start(run, 1, KILL_AT=moment)
    assert ranks.wait(200) != 0
    assert not (run.attempt(1) / "result.json").exists()
    ranks = start(run, 2)
    assert ranks.wait(200) == 0, ranks.output()
    begun = run.events(2)[0]
    assert (begun["epoch"], begun["stage"]) == first
    for rank in (0, 1):
        resumed = steps_of(run, 2, rank)
        assert 5 < len(resumed) < 4 * STEPS
        expected = steps_of(undisturbed, 1, rank)[-len(resumed) :]
        # A rank's own batch statistics between two steps are replaced by rank 0's in the next.
        seen = ("epoch", "shape", "encoder", "decoder")
        assert [[step[key] for key in seen] for step in resumed] == [
            [step[key] for key in seen] for step in expected
        ]
    for name in ("untrained", "best", "final", "history"):
        assert run.result(2)["details"][name] == undisturbed.result(1)["details"][name]
    ours, theirs = run.last_checkpoint(), undisturbed.last_checkpoint()
    for state in ("model", "optimizer", "average"):
        for mine, other in zip(tensors(ours[state]), tensors(theirs[state]), strict=True):
            assert torch.equal(mine, other)


def test_a_run_that_goes_on_with_another_number_of_ranks_says_so_in_its_result(
    tmp_path, undisturbed
):
    run = TrialRun(tmp_path / "moved", tmp_path / "cache").write_spec(CONFIG)
    assert start(run, 1, KILL_AT="forward 2 4").wait(200) != 0
    ranks = run.start(2, 1, "-m", "experiments.runtime", str(FOLDER))
    assert ranks.wait(200) == 0, ranks.output()
    details, other = run.result(2)["details"], undisturbed.result(1)["details"]
    assert (details["world_sizes"], details["world_size"]) == ([2, 1], 1)
    assert "world_sizes" not in other
    # Up to the kill the numbers are the same; after it dropout is drawn anew.
    assert details["history"][:2] == other["history"][:2]
    assert [epoch["epoch"] for epoch in details["history"]] == [1, 2, 3, 4]
    assert len(other["peak_memory_mb_by_rank"]["host"]) == 2
    assert 0 < other["evenness"]["host"] <= 1
    assert other["train_items_per_s"] > 0


def test_stages_that_do_not_fill_the_epochs_are_refused(tmp_path):
    run = TrialRun(tmp_path / "run", tmp_path / "cache").write_spec({"decoder_epochs": 9})
    ranks = start(run, 1)
    assert ranks.wait(200) != 0
    message = "epochs=4, but the stages of this experiment have 4 epochs (decoder 9, all -5)"
    assert run.error(1)["message"].startswith(message)


def tensors(state: Any) -> list[torch.Tensor]:
    """All tensors in a nested state, in its order."""
    if isinstance(state, torch.Tensor):
        return [state]
    inner = state.values() if isinstance(state, dict) else state
    return [
        t for each in inner if isinstance(each, dict | list | torch.Tensor) for t in tensors(each)
    ]
