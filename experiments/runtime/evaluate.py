"""Evaluation: a fixed list of items, each predicted once over all ranks, never padded."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from experiments.runtime.distributed import Ranks, all_reduce_sum, any_rank
from experiments.runtime.loaders import LoaderSettings, load_items
from experiments.runtime.precision import Precision
from experiments.runtime.samplers import EvalSampler
from experiments.runtime.seeds import torch_generator
from experiments.runtime.stop import Stopped, StopRequest
from experiments.runtime.task import Item, Sums, Task


def evaluate(  # noqa: PLR0913
    task: Task,
    name: str,
    model: nn.Module,
    *,
    ranks: Ranks,
    precision: Precision,
    num_workers: int,
    stop: StopRequest,
    loader_timeout_s: float = 0.0,
) -> Sums:
    """The tally of the list `name`, on every rank; equal for any number of ranks.

    Stopped where a rank received a stop request: the unfinished evaluation is dropped.
    """
    was_training = model.training
    model.eval()
    task.begin_evaluation(model)
    data, order, tally = task.eval_data(name), task.eval_order(name), task.tally(name)
    places = [
        order[at] for at in EvalSampler(len(data), rank=ranks.rank, world_size=ranks.world_size)
    ]
    # The global generator is the training's: an evaluation draws nothing from it.
    generator = torch_generator(0, "evaluation", ranks.rank)
    settings = LoaderSettings(num_workers=num_workers, timeout_s=loader_timeout_s)
    # Single items: a batch of several could change a prediction in its last bit.
    items: Iterator[Item] = load_items(data, places, generator, settings)
    # Every rank makes the same number of rounds, so that all can agree on a stop in each.
    for turn in range(math.ceil(len(data) / ranks.world_size)):
        if any_rank((stop.is_requested,), ranks)[0]:
            raise Stopped
        if turn < len(places):
            item = next(items)
            with torch.inference_mode(), precision.autocast():
                prediction = task.predict(model, item, ranks.device)
            tally.add(places[turn], prediction, item)
    model.train(was_training)
    return all_reduce_sum(torch.from_numpy(tally.state()), ranks).numpy()
