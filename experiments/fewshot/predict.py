"""The predictions for test episodes, at the size at which they are counted.

Episodes of a chunk go through the method together; their pixels are counted where they were
computed, and read once in the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.fewshot.canvas import Canvases, Rgb, stack
from experiments.fewshot.episodes.transforms import restore_logits
from experiments.fewshot.feature_cache import FeatureCache
from experiments.fewshot.loading import EvalItem
from experiments.fewshot.metrics import Counts
from experiments.fewshot.models.base import Features, FewShotModel, Output, resize_logits
from experiments.runtime.batches import to_device
from experiments.runtime.entry import NonFiniteError


class Predictor:
    """Predicts chunks of episodes with one model."""

    def __init__(
        self, model: FewShotModel, device: torch.device, cache: FeatureCache, fill_rgb: Rgb
    ) -> None:
        """`fill_rgb` is the colour around test images."""
        self._model, self._device, self._cache = model, device, cache
        self._fill_rgb = fill_rgb

    @torch.inference_mode()
    def counts(self, items: Sequence[EvalItem]) -> list[Counts]:
        """The counts of each episode. NonFiniteError where the model is destroyed."""
        rows, is_finite = [], []
        for item, logits_T2HW in zip(items, self._logits(items), strict=True):
            truth_HW = torch.from_numpy(item.truth).to(self._device, non_blocking=True)
            rows.append(count_pixels(_foreground(logits_T2HW), truth_HW))
            # NaN is above nothing: the mask would be empty, and have an IoU.
            is_finite.append(torch.isfinite(logits_T2HW).all())
        numbers: Counts = torch.stack(rows).cpu().numpy()
        if not torch.stack(is_finite).all():
            raise NonFiniteError("a logit is NaN or infinite")
        return list(numbers)

    @torch.inference_mode()
    def mask(self, item: EvalItem) -> NDArray[np.bool_]:
        """The predicted foreground of an episode at the size of its truth, bool HW."""
        (logits_T2HW,) = self._logits([item])
        found: NDArray[np.bool_] = _foreground(logits_T2HW)[-1].cpu().numpy()
        return found

    def _logits(self, items: Sequence[EvalItem]) -> list[Tensor]:
        """T predictions of each episode at the size of its truth: T 2 H W."""
        output = self._output(items)
        each_B2hw = [*output.earlier, output.logits]
        # To the canvas in the same way as the loss does, so that training and test agree.
        canvas_TB2HW = [resize_logits(logits, output.grid) for logits in each_B2hw]
        return [
            restore_logits(torch.stack([logits[place] for logits in canvas_TB2HW]), item.placement)
            for place, item in enumerate(items)
        ]

    def _output(self, items: Sequence[EvalItem]) -> Output:
        query_B3HW = self._painted([item.query for item in items])
        support_BK3HW = self._painted([item.support for item in items])
        mask_BKHW = torch.stack([item.support_mask for item in items]).to(self._device)
        shown_BK3HW = self._model.shown_supports(support_BK3HW, mask_BKHW)
        names = [item.episode.query for item in items]
        names += [name for item in items for name in self._support_names(item)]
        images_N3HW = torch.cat([query_B3HW, shown_BK3HW.flatten(0, 1)])
        query, support = _divided(self._cache.encode(self._model, names, images_N3HW), len(items))
        return self._model.segment(query_B3HW, query, support, mask_BKHW)

    def _support_names(self, item: EvalItem) -> list[str]:
        # Where the backbone sees a support under its mask, its features are those of a class.
        suffix = f" class {item.episode.class_id}" if self._model.masks_supports else ""
        return [name + suffix for name in item.episode.supports]

    def _painted(self, canvases: list[Canvases]) -> Tensor:
        both: Canvases = to_device(stack(canvases), self._device)
        return both.painted(self._fill_rgb)


def count_pixels(prediction_THW: Tensor, truth_HW: Tensor) -> Tensor:
    """`metrics.episode_counts` of T predictions on their device, int64 T 5."""
    foreground_HW, background_HW = truth_HW == 1, truth_HW == 0
    hits_T = (prediction_THW & foreground_HW).sum((1, 2))
    false_alarms_T = (prediction_THW & background_HW).sum((1, 2))
    num_foreground, num_background = foreground_HW.sum(), background_HW.sum()
    columns = (
        hits_T,
        num_foreground + false_alarms_T,
        num_background - false_alarms_T,
        num_background + num_foreground - hits_T,
        torch.ones_like(hits_T),
    )
    return torch.stack(columns, dim=1)


def _foreground(logits_T2HW: Tensor) -> Tensor:
    """Bool T H W; a tie is background."""
    return logits_T2HW[:, 1] > logits_T2HW[:, 0]


def _divided(features: Features, num_episodes: int) -> tuple[Features, Features]:
    """Levels of B C h w of the queries, and of B K C h w of the supports."""
    query = tuple(level[:num_episodes] for level in features)
    support = tuple(
        level[num_episodes:].reshape(num_episodes, -1, *level.shape[1:]) for level in features
    )
    return query, support
