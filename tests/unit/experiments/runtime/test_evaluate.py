"""Evaluation in chunks: fixed before ranks share them, saved on the way, counted once."""

from __future__ import annotations

import dataclasses
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_training import ALONE, Items, TinyOptions, TinyTask
from torch import nn

from experiments.runtime.evaluate import Partial, Saving, eval_chunks, evaluate
from experiments.runtime.options import RuntimeOptions
from experiments.runtime.precision import Precision
from experiments.runtime.samplers import EvalSampler
from experiments.runtime.stop import Stopped, StopRequest
from experiments.runtime.task import Tally
from merge.errors import UsageError

NUM_ITEMS = 11


class Rows(Tally):
    """Item and prediction, one row an item."""

    def __init__(self):
        self.rows = np.zeros((NUM_ITEMS, 2), np.int64)

    def add(self, index, prediction, item):
        # Added, not set: an item that is counted twice would be seen.
        self.rows[index] += int(item), int(prediction)

    def state(self):
        return self.rows

    def metrics(self, state):
        return {"score": float(state.sum())}


class ChunkTask(TinyTask):
    """Predicts each item's index times ten; remembers which items came together."""

    def __init__(self, chunk):
        runtime = RuntimeOptions(eval_chunk=chunk)
        super().__init__(None, dataclasses.replace(TinyOptions(), runtime=runtime))
        self.together = []
        self.stop = StopRequest()
        self.stops_after = None

    def eval_data(self, name):
        del name
        return Items(NUM_ITEMS)

    def eval_order(self, name):
        del name
        return [*range(0, NUM_ITEMS, 2), *range(1, NUM_ITEMS, 2)]

    def tally(self, name):
        del name
        return Rows()

    def predict_chunk(self, model, items, device):
        del model, device
        self.together.append([int(item) for item in items])
        if len(self.together) == self.stops_after:
            self.stop._is_requested = True
        return [int(item) * 10 for item in items]


def measure(task, **given):
    precision = Precision("off", ALONE.device)
    return evaluate(
        task,
        "test",
        nn.Linear(1, 1),
        ranks=ALONE,
        precision=precision,
        num_workers=0,
        stop=task.stop,
        **given,
    )


EXPECTED = [[index, 10 * index] for index in range(NUM_ITEMS)]


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
def test_items_come_in_chunks_of_the_tasks_order_and_are_counted_once(chunk):
    task = ChunkTask(chunk)
    assert measure(task).tolist() == EXPECTED
    order = task.eval_order("test")
    assert task.together == [order[at : at + chunk] for at in range(0, NUM_ITEMS, chunk)]


@given(st.integers(0, 40), st.integers(1, 7), st.integers(1, 5))
def test_a_rank_gets_whole_chunks_of_one_list_for_any_number_of_ranks(num_items, size, world_size):
    chunks = eval_chunks(range(num_items), size)
    shards = [EvalSampler(len(chunks), rank=r, world_size=world_size) for r in range(world_size)]
    assert sorted(chain(*shards)) == list(range(len(chunks)))
    assert list(chain(*chunks)) == list(range(num_items))
    assert all(len(chunk) == size for chunk in chunks[:-1])


def test_a_task_that_predicts_single_items_is_asked_for_each_of_a_chunk():
    task = TinyTask(None, TinyOptions())
    task.predict = lambda _model, item, _device: float(item) + 1
    model, device = nn.Linear(1, 1), torch.device("cpu")
    assert task.predict_chunk(model, [torch.tensor(1), torch.tensor(5)], device) == [2, 6]


def test_a_prediction_too_few_is_refused_with_both_numbers():
    task = ChunkTask(4)
    task.predict_chunk = lambda *_: [0]
    with pytest.raises(UsageError, match="returned 1 predictions for 4 items"):
        measure(task)


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_stopped_evaluation_goes_on_where_it_was(chunk):
    task, saved = ChunkTask(chunk), []
    task.stops_after = 2
    with pytest.raises(Stopped):
        measure(task, saving=Saving(is_due=lambda _: False, save=saved.append))
    (partial,) = saved
    assert partial.num_chunks == 2
    again = ChunkTask(chunk)
    assert measure(again, begun=partial).tolist() == EXPECTED
    assert again.together == eval_chunks(again.eval_order("test"), chunk)[2:]


def test_an_evaluation_is_saved_where_it_is_due_and_each_saving_completes_it():
    task, saved = ChunkTask(2), []
    whole = measure(task, saving=Saving(is_due=lambda done: done in {2, 3}, save=saved.append))
    assert whole.tolist() == EXPECTED
    assert [partial.num_chunks for partial in saved] == [2, 3]
    # What was saved must not change with the tally that goes on.
    for partial in saved:
        kept = Partial(partial.num_chunks, partial.sums.copy())
        assert measure(ChunkTask(2), begun=kept).tolist() == EXPECTED


def test_an_unfinished_evaluation_is_dropped_where_nothing_saves_it():
    task = ChunkTask(1)
    task.stops_after = 1
    with pytest.raises(Stopped):
        measure(task)
