"""Rank variables and devices."""

from __future__ import annotations

import pytest
import torch

from experiments.runtime import distributed
from experiments.runtime.distributed import Ranks, process_group, read_ranks
from merge.errors import UsageError

RANKS = {
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


def test_a_process_without_rank_variables_is_a_world_of_one():
    assert read_ranks({}, "cpu") == Ranks(0, 0, 1, torch.device("cpu"))


def test_rank_variables_are_read():
    assert read_ranks(RANKS, "cpu") == Ranks(1, 1, 2, torch.device("cpu"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": ""}, "RANK is '', not a number"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"RANK": "2"}, "RANK=2 is outside WORLD_SIZE=2"),
        ({"MASTER_ADDR": "", "MASTER_PORT": ""}, "MASTER_ADDR and MASTER_PORT is not set"),
    ],
)
def test_incomplete_rank_variables_are_refused(change, message):
    with pytest.raises(UsageError, match=message):
        read_ranks({**RANKS, **change}, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_an_error_and_never_a_quiet_cpu_run():
    with pytest.raises(UsageError, match=r"torch sees no GPU.*--device cpu"):
        read_ranks({}, "cuda")


def test_a_world_of_one_makes_no_process_group_and_every_helper_passes_through(monkeypatch):
    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    with process_group("cpu") as ranks:
        assert not torch.distributed.is_initialized()
        counts = torch.tensor([3, 4])
        assert distributed.all_reduce_sum(counts, ranks).tolist() == [3, 4]
        assert distributed.any_rank((True, False), ranks) == (True, False)
        assert distributed.broadcast_object("name", ranks) == "name"
        assert distributed.gather_objects(7, ranks) == [7]
        distributed.barrier(ranks)
