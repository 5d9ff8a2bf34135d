"""Loader processes that live over epochs, and give the same batches as those that do not."""

from __future__ import annotations

import gc
import os
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import shared_cache

from experiments.runtime.loaders import LoaderSettings
from experiments.runtime.samplers import TrainSampler
from experiments.runtime.train_loader import TrainLoader
from merge.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(autouse=True)
def _forget_what_was_shared():
    """torch remembers tensors that came from loader processes, and complains at Python's exit."""
    yield
    shared_cache.free_dead_references()


@dataclass
class Epoch:
    """Each item: its epoch, its index, the process that read it, and three global random draws."""

    epoch: int
    size: int = 8

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        drawn = (torch.rand(()).item(), random.random(), np.random.rand())
        return torch.tensor([self.epoch, index, os.getpid(), *drawn], dtype=torch.float64)


def make(data_of=Epoch, num_workers=2):
    sampler = TrainSampler(8, global_batch=2, rank=0, world_size=1, seed=3)
    settings = LoaderSettings(num_workers=num_workers, timeout_s=60.0)
    loader = TrainLoader(data_of, torch.stack, sampler, (3, 0), settings)

    def rows(epoch, first_step=0):
        sampler.set_epoch(epoch, first_step=first_step)
        return torch.cat(list(loader.batches(epoch)))

    return loader, rows


def test_processes_live_on_and_read_the_data_of_each_epoch():
    loader, rows = make()
    first, second = rows(0), rows(1)
    assert first[:, 0].tolist() == [0] * 8
    assert second[:, 0].tolist() == [1] * 8
    assert sorted(second[:, 1].tolist()) == list(range(8))
    assert first[:, 1].tolist() != second[:, 1].tolist()
    processes = set(first[:, 2].tolist())
    assert len(processes) == 2
    assert set(second[:, 2].tolist()) == processes
    loader.close()
    assert not set(rows(2)[:, 2].tolist()) & processes
    loader.close()


def test_an_epoch_is_the_same_after_others_and_by_itself_also_for_global_draws():
    (one, whole), (other, resumed) = make(), make()
    whole(0)
    after, alone = whole(1), resumed(1)
    torch.testing.assert_close(after[:, [0, 1, 3, 4, 5]], alone[:, [0, 1, 3, 4, 5]], rtol=0, atol=0)
    assert len(set(after[:, 3].tolist())) == 8
    one.close()
    other.close()


def test_batches_do_not_depend_on_processes_and_go_on_inside_an_epoch():
    (one, there), (other, here) = make(), make(num_workers=0)
    for epoch, first_step in ((0, 2), (1, 0)):
        torch.testing.assert_close(there(epoch, first_step)[:, :2], here(epoch, first_step)[:, :2])
    one.close()
    other.close()


def missing(epoch):
    raise DataError(f"epoch {epoch} has no list: restore it")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_data_that_cannot_be_made_raises_its_own_error(num_workers, monkeypatch):
    # How long torch waits for each process that it ends; no process hears of the end where the
    # garbage collector brings it.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    loader, rows = make(missing, num_workers)
    with pytest.raises(DataError, match="epoch 4 has no list"):
        rows(4)
    loader.close()
    gc.collect()
