"""Checkpoint files and the states of random generators."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from experiments.runtime.checkpoint import (
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from experiments.runtime.distributed import Ranks
from merge.errors import RecordError, UsageError

CPU = torch.device("cpu")
ALONE = Ranks(0, 0, 1, CPU)


def draw() -> tuple[float, ...]:
    return random.random(), random.gauss(), float(np.random.randn()), float(torch.randn(()))


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    path = tmp_path / "checkpoints" / "last.pt"
    model = torch.nn.Linear(2, 2)
    save_checkpoint(path, {"model": model.state_dict(), "best": {"miou": 0.5}}, config_hash="ab")
    state = load_checkpoint(path, ALONE, config_hash="ab")
    assert torch.equal(state["model"]["weight"], model.weight)
    assert state["best"] == {"miou": 0.5}


def test_no_checkpoint_is_none(tmp_path):
    assert load_checkpoint(tmp_path / "last.pt", ALONE, config_hash="ab") is None


def test_random_generators_continue_from_a_saved_state(tmp_path):
    path = tmp_path / "last.pt"
    draw()
    save_checkpoint(path, {"random": random_state(CPU)}, config_hash="ab")
    expected = [draw() for _ in range(3)]
    restore_random_state(load_checkpoint(path, ALONE, config_hash="ab")["random"], CPU)
    assert [draw() for _ in range(3)] == expected


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.99])
def test_a_truncated_checkpoint_is_named_with_the_fix(tmp_path, keep):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"model": {"w": torch.zeros(5000)}}, config_hash="ab")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(RecordError, match=r"last\.pt is damaged .*delete it"):
        load_checkpoint(path, ALONE, config_hash="ab")


def test_a_checkpoint_cannot_run_code(tmp_path):
    path = tmp_path / "last.pt"
    torch.save({"schema": 1, "config_hash": "ab", "call": os.system}, path)
    with pytest.raises(RecordError, match="damaged"):
        load_checkpoint(path, ALONE, config_hash="ab")


def test_a_foreign_file_is_no_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / "last.pt")
    with pytest.raises(RecordError, match="no checkpoint of schema 1"):
        load_checkpoint(tmp_path / "last.pt", ALONE, config_hash="ab")


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {}, config_hash="ab")
    with pytest.raises(UsageError, match="another configuration"):
        load_checkpoint(tmp_path / "last.pt", ALONE, config_hash="cd")
