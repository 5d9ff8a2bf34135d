"""The prediction for one test episode, at the size at which it is counted."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.fewshot.episodes.transforms import restore_logits
from experiments.fewshot.feature_cache import FeatureCache, stack_shots
from experiments.fewshot.loading import EvalItem
from experiments.fewshot.models.base import FewShotModel, resize_logits
from experiments.runtime.finite import require_finite


@torch.inference_mode()
def predict_episode(
    model: FewShotModel, item: EvalItem, device: torch.device, cache: FeatureCache
) -> NDArray[np.bool_]:
    """The predicted foreground at the size of the truth, bool THW; a tie is background.

    T predictions of a method that iterates, the last one in the end; of others it is 1.
    """
    query, support, support_mask = (
        tensor.to(device) for tensor in (item.query, item.support, item.support_mask)
    )
    (shown,) = model.shown_supports(support[None], support_mask[None])
    # A support's mask is that of the episode's class.
    suffix = f" class {item.episode.class_id}" if model.masks_supports else ""
    names = [name + suffix for name in item.episode.supports]
    of_query = cache.encode(model, item.episode.query, query)
    of_shots = [cache.encode(model, *shot) for shot in zip(names, shown, strict=True)]
    output = model.segment(query[None], of_query, stack_shots(of_shots), support_mask[None])
    # To the canvas in the same way as the loss does, so that training and test agree.
    canvas = resize_logits(torch.cat([*output.earlier, output.logits]), output.grid)
    logits_T2HW = restore_logits(canvas, item.placement)
    # NaN is above nothing: the mask would be empty, and have an IoU.
    require_finite(logits_T2HW, "a logit")
    predictions: NDArray[np.bool_] = (logits_T2HW[:, 1] > logits_T2HW[:, 0]).cpu().numpy()
    return predictions
