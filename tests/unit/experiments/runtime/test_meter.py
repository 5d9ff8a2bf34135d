"""What a rank counts while it trains, where training goes on from a checkpoint."""

from __future__ import annotations

import pytest
import torch
from support.tiny_training import TinyRun

from experiments.runtime.distributed import Ranks
from experiments.runtime.meter import CountMeter


def test_counts_of_a_checkpoint_go_on_where_the_training_counts():
    meter = CountMeter()
    meter.reset({"confusion": torch.ones(2, 2, dtype=torch.int64)})
    meter.add({"confusion": torch.ones(2, 2, dtype=torch.int64, device="meta")})
    assert meter._sums["confusion"].device.type == "meta"


@pytest.mark.parametrize(("rank", "expected"), [(0, 7), (1, 0), (2, 0)])
def test_on_another_number_of_ranks_each_has_all_names_and_rank_0_the_counts(
    tmp_path, rank, expected
):
    """Where no step of the epoch is left, a rank without names would leave the others waiting."""
    trainer = TinyRun(tmp_path).attempt()
    trainer.snapshots._ranks = Ranks(rank, rank, 3, torch.device("cpu"))
    ranks = [{"counts": {"correct": torch.tensor(n)}, "loss_sum": 1.0} for n in (3, 4)]
    state = {"world_size": 2, "ranks": ranks}
    trainer.snapshots._restore_rank(state, trainer.progress, 3)
    assert trainer._setup.learner.counts.state() == {"correct": torch.tensor(expected)}
