"""Losses on two-class logits: cross entropy and, by option, soft Dice; 255 is ignored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from experiments.backbones.cells import CellGrid
from experiments.fewshot.models.base import Output, resize_logits
from experiments.runtime.task import Term

IGNORED = 255


def loss_terms(output: Output, target_BHW: Tensor, dice_weight: float) -> list[Term]:
    """The terms of the loss, of the logits and the auxiliary logits.

    Cross entropy is a mean over pixels and a rank may have more of them than another; Dice is a
    mean over episodes, of which every rank has as many.
    """
    terms = [Term(segmentation_loss(output, target_BHW), "pixels")]
    if dice_weight:
        for logits, weight in ((output.logits, 1.0), *output.auxiliary):
            value = dice(resize_logits(logits, output.grid), target_BHW)
            terms.append(Term(value, "episodes", dice_weight * weight))
    return terms


def segmentation_loss(output: Output, target_BHW: Tensor, *, dice_weight: float = 0.0) -> Tensor:
    """Loss of the logits plus the weighted losses of the auxiliary logits, a scalar.

    `target_BHW` holds 0, 1 and 255 = ignored. With every pixel ignored it is 0, as is its gradient.
    """
    terms = ((output.logits, 1.0), *output.auxiliary)
    losses = [
        weight * mask_loss(logits, target_BHW, output.grid, dice_weight) for logits, weight in terms
    ]
    return sum(losses[1:], start=losses[0])


def mask_loss(
    logits_B2hw: Tensor, target_BHW: Tensor, grid: CellGrid, dice_weight: float = 0.0
) -> Tensor:
    """Cross entropy plus `dice_weight` times Dice, of logits resized to the target, in float32."""
    logits_B2HW = resize_logits(logits_B2hw, grid)
    loss = cross_entropy(logits_B2HW, target_BHW)
    if dice_weight:
        loss = loss + dice_weight * dice(logits_B2HW, target_BHW)
    return loss


def cross_entropy(logits_B2HW: Tensor, target_BHW: Tensor) -> Tensor:
    """Mean cross entropy over the pixels of the batch that are not ignored; 0 where none is."""
    # torch's own mean over no pixel at all is NaN, and would end the run.
    if logits_B2HW.is_cuda and torch.are_deterministic_algorithms_enabled():
        total = two_class_sum(logits_B2HW, target_BHW)
    else:
        total = functional.cross_entropy(
            logits_B2HW, target_BHW.long(), ignore_index=IGNORED, reduction="sum"
        )
    return total / (target_BHW != IGNORED).sum().clamp(min=1)


def two_class_sum(logits_B2HW: Tensor, target_BHW: Tensor) -> Tensor:
    """The sum of the same cross entropy by the difference of the two logits.

    torch's own on a GPU has no deterministic form for images.
    """
    margin_BHW = (logits_B2HW[:, 1] - logits_B2HW[:, 0]) * (2.0 * (target_BHW == 1) - 1)
    return -(functional.logsigmoid(margin_BHW) * (target_BHW != IGNORED)).sum()


def dice(logits_B2HW: Tensor, target_BHW: Tensor) -> Tensor:
    """1 - (2 |P T| + 1) / (|P| + |T| + 1) of the foreground probability, mean over the batch.

    The 1 keeps it 0, not undefined, for an empty target that is predicted empty.
    """
    is_valid = target_BHW != IGNORED
    probability = logits_B2HW.softmax(1)[:, 1] * is_valid
    truth = (target_BHW == 1).to(probability.dtype)
    overlap = (probability * truth).sum((1, 2))
    total = probability.sum((1, 2)) + truth.sum((1, 2))
    return (1 - (2 * overlap + 1) / (total + 1)).mean()
