"""Evaluation: a fixed test list, each episode once over all ranks, counted at its truth's size."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.fewshot.episode_counts import EpisodeCounts
from experiments.fewshot.episodes.transforms import restore_logits
from experiments.fewshot.feature_cache import FeatureCache, stack_shots
from experiments.fewshot.loading import EvalDataset, EvalItem, eval_loader
from experiments.fewshot.metrics import COLUMNS, episode_counts
from experiments.fewshot.models.base import FewShotModel, resize_logits
from experiments.runtime.distributed import Ranks, all_reduce_sum, any_rank
from experiments.runtime.precision import Precision
from experiments.runtime.samplers import EvalSampler
from experiments.runtime.stop import Stopped, StopRequest


def evaluate(  # noqa: PLR0913
    model: FewShotModel,
    dataset: EvalDataset,
    class_ids: tuple[int, ...],
    *,
    ranks: Ranks,
    precision: Precision,
    num_workers: int,
    stop: StopRequest,
    cache: FeatureCache,
) -> EpisodeCounts:
    """Counts of all episodes, on every rank; equal for any number of ranks and any cache.

    Stopped where a rank was asked to stop: what was counted so far is given up.
    """
    was_training = model.training
    model.eval()
    # Each rank fills the rows of its own episodes, so that their sum over the ranks has them all.
    rows_E5 = np.zeros((len(dataset), len(COLUMNS)), np.int64)
    cache.begin(model)
    order = _by_class(dataset)
    sampler = EvalSampler(len(dataset), rank=ranks.rank, world_size=ranks.world_size)
    items = iter(eval_loader(dataset, [order[place] for place in sampler], num_workers))
    # Every rank makes the same number of rounds, so that all can agree on a stop in each.
    for _ in range(math.ceil(len(dataset) / ranks.world_size)):
        if any_rank((stop.is_requested,), ranks)[0]:
            raise Stopped
        item = next(items, None)
        if item is not None:
            prediction_HW = predict_episode(model, item, ranks.device, precision, cache)
            rows_E5[item.index] = episode_counts(prediction_HW, item.truth)
    model.train(was_training)
    return EpisodeCounts(
        class_ids=class_ids,
        class_of_each=np.array([e.class_id for e in dataset.episodes], np.int64),
        rows=all_reduce_sum(torch.from_numpy(rows_E5), ranks).numpy(),
    )


@torch.inference_mode()
def predict_episode(
    model: FewShotModel,
    item: EvalItem,
    device: torch.device,
    precision: Precision,
    cache: FeatureCache,
) -> NDArray[np.bool_]:
    """The predicted foreground at the size of the truth, bool HW; a tie is background."""
    query, support, support_mask = (
        tensor.to(device) for tensor in (item.query, item.support, item.support_mask)
    )
    names = item.episode.supports
    with precision.autocast():
        of_query = cache.encode(model, item.episode.query, query)
        of_shots = [cache.encode(model, *shot) for shot in zip(names, support, strict=True)]
        output = model.segment(query[None], of_query, stack_shots(of_shots), support_mask[None])
    # To the canvas in the same way as the loss does, so that training and test agree.
    canvas = resize_logits(output.logits, item.placement.canvas_hw)
    logits_2HW = restore_logits(canvas, item.placement)[0]
    prediction: NDArray[np.bool_] = (logits_2HW[1] > logits_2HW[0]).cpu().numpy()
    return prediction


def _by_class(dataset: EvalDataset) -> list[int]:
    """Indices of the episodes, those of a class together: they share images, so a cache serves."""
    return sorted(range(len(dataset)), key=lambda index: dataset.episodes[index].class_id)
