"""Which items each rank takes."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.runtime.samplers import EvalSampler, TrainSampler, divide_batch
from merge.errors import UsageError

worlds = st.integers(1, 5)


def global_batches(num_items, world_size, per_device, *, epoch=0, first_step=0, seed=0):
    samplers = [
        TrainSampler(
            num_items,
            global_batch=per_device * world_size,
            rank=rank,
            world_size=world_size,
            seed=seed,
        )
        for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch, first_step=first_step)
    return [list(chain(*slices)) for slices in zip(*samplers, strict=True)]


@given(st.integers(1, 60), st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(0, 3))
def test_the_global_batch_is_the_same_for_any_world_size(extra, world_size, epoch):
    num_items = 11 + extra
    split = global_batches(num_items, world_size, 12 // world_size, epoch=epoch)
    assert split == global_batches(num_items, 1, 12, epoch=epoch)


@given(worlds, st.integers(1, 4), st.integers(0, 40))
def test_an_epoch_uses_each_item_once_and_leaves_less_than_a_batch(world_size, per_device, extra):
    global_batch = world_size * per_device
    num_items = global_batch + extra
    used = list(chain(*global_batches(num_items, world_size, per_device)))
    assert len(set(used)) == len(used)
    assert set(used) <= set(range(num_items))
    assert num_items - len(used) < global_batch


@given(worlds, st.integers(0, 12))
def test_a_resumed_epoch_goes_on_where_it_was(world_size, step):
    whole = global_batches(10 * world_size, world_size, 1, epoch=2)
    assert global_batches(10 * world_size, world_size, 1, epoch=2, first_step=step) == whole[step:]


def test_epochs_and_seeds_have_different_orders():
    orders = [
        global_batches(50, 1, 5, epoch=epoch, seed=seed) for epoch in (0, 1) for seed in (0, 1)
    ]
    assert len({str(order) for order in orders}) == 4


def test_the_length_counts_the_steps_that_are_left():
    sampler = TrainSampler(23, global_batch=4, rank=1, world_size=2, seed=0)
    sampler.set_epoch(0, first_step=3)
    assert (sampler.num_steps, len(sampler), len(list(sampler))) == (5, 2, 2)


@given(st.integers(0, 50), worlds)
def test_evaluation_takes_every_item_once_over_all_ranks(num_items, world_size):
    shards = [EvalSampler(num_items, rank=r, world_size=world_size) for r in range(world_size)]
    assert sorted(chain(*shards)) == list(range(num_items))
    assert sum(len(shard) for shard in shards) == num_items


def test_a_rank_without_items_evaluates_nothing():
    assert list(EvalSampler(2, rank=2, world_size=3)) == []


def test_a_batch_that_does_not_divide_is_refused_with_both_numbers():
    with pytest.raises(UsageError, match=r"global_batch=16 .* world_size=3"):
        divide_batch(16, 3)


def test_an_epoch_shorter_than_a_batch_is_refused():
    with pytest.raises(UsageError, match="7 items, fewer than global_batch=8"):
        TrainSampler(7, global_batch=8, rank=0, world_size=1, seed=0)
