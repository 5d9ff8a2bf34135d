"""The model of one run under training: DDP, optimiser, learning rate, mixed precision."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from experiments.fewshot.config import FewShotConfig
from experiments.fewshot.loading import TrainBatch
from experiments.fewshot.models.base import FewShotModel, Output, resize_logits
from experiments.fewshot.models.losses import IGNORED, dice, segmentation_loss
from experiments.runtime.data_parallel import data_parallel, share_buffers
from experiments.runtime.distributed import Ranks
from experiments.runtime.precision import Precision

State = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """Some episodes of a batch, and their shares of it: those of all its parts sum to 1."""

    batch: TrainBatch
    pixel_share: float
    """Of the counted pixels."""
    episode_share: float


class Learner:
    """Takes optimiser steps on a model; the same step on every rank."""

    def __init__(
        self,
        model: FewShotModel,
        config: FewShotConfig,
        ranks: Ranks,
        precision: Precision,
        micro_batch: int = 0,
    ) -> None:
        """`micro_batch` is how many episodes are computed at a time; 0 is the whole batch."""
        self._micro_batch = micro_batch
        self.model = model.to(ranks.device)
        self._config = config
        self._ranks = ranks
        self._precision = precision
        # A frozen backbone is equal on all ranks by its weight file: nothing of it has to travel.
        frozen = model.backbone.state_dict(prefix="backbone.") if model.backbone.is_frozen else {}
        self._parallel = data_parallel(self.model, ranks, unsynchronised=frozen)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = _build_optimizer(config, trained)
        self._scaler = precision.new_scaler()

    def step(self, batch: TrainBatch, *, pixel_share: float, lr: float) -> Tensor:
        """One optimiser step; this rank's part of the loss, a detached scalar on the device.

        `pixel_share` is this rank's counted pixels over their mean over ranks: with it the
        averaged gradient is that of the mean loss over all pixels of the global batch.
        """
        self._parallel.train()
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.zero_grad(set_to_none=True)
        *before, last = divide(batch, self._micro_batch)
        with self._no_sync():
            losses = [self._accumulate(part, pixel_share) for part in before]
        losses.append(self._accumulate(last, pixel_share))
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return sum(losses[1:], start=losses[0])

    def share_statistics(self) -> None:
        """Let all ranks measure and save one model: that of rank 0."""
        if not self.model.backbone.is_frozen:
            share_buffers(self.model, self._ranks)

    def _accumulate(self, part: Part, pixel_share: float) -> Tensor:
        """Add the gradient of a part of the batch; its part of the loss."""
        query, support, support_mask, target = (
            tensor.to(self._ranks.device, non_blocking=True) for tensor in part.batch
        )
        with self._precision.autocast():
            output = self._parallel(query, support, support_mask)
        loss = global_loss(
            output,
            target,
            pixel_share * part.pixel_share,
            self._config.dice_weight * part.episode_share,
        )
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _no_sync(self) -> AbstractContextManager[None]:
        """Gradients stay on this rank: the last part's step brings the sum to all."""
        if isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return nullcontext()

    def state_dict(self) -> State:
        """Model (see `trained_state`), optimiser and loss scaler."""
        return {
            "model": trained_state(self.model),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        load_trained_state(self.model, state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])


def divide(batch: TrainBatch, micro_batch: int) -> list[Part]:
    """`batch` in parts of `micro_batch` episodes, the last one shorter; 0 makes it one part."""
    num_episodes = len(batch.query)
    size = micro_batch or num_episodes
    total = int((batch.target != IGNORED).sum())
    parts = []
    for start in range(0, num_episodes, size):
        piece = TrainBatch(*(tensor[start : start + size] for tensor in batch))
        num_pixels = int((piece.target != IGNORED).sum())
        pixel_share = num_pixels / total if total else 1.0
        parts.append(Part(piece, pixel_share, len(piece.query) / num_episodes))
    return parts


def trained_state(model: FewShotModel) -> State:
    """The model's state without a frozen backbone, which only its weight file decides."""
    prefix = "backbone." if model.backbone.is_frozen else None
    state = model.state_dict()
    return {
        name: value for name, value in state.items() if not (prefix and name.startswith(prefix))
    }


def load_trained_state(model: FewShotModel, state: State) -> None:
    """Load what `trained_state` returned into a model of the same configuration and weights."""
    frozen = model.backbone.state_dict(prefix="backbone.") if model.backbone.is_frozen else {}
    model.load_state_dict({**frozen, **state})


def global_loss(
    output: Output, target_BHW: Tensor, pixel_share: float, dice_weight: float
) -> Tensor:
    """This rank's part of the global batch's loss: the parts' mean over ranks is the whole.

    Cross entropy is a mean over pixels and a rank may have more of them than another; Dice is a
    mean over episodes, of which every rank has as many.
    """
    loss = segmentation_loss(output, target_BHW) * pixel_share
    if dice_weight:
        size = target_BHW.shape[-2], target_BHW.shape[-1]
        for logits, weight in ((output.logits, 1.0), *output.auxiliary):
            loss = loss + dice_weight * weight * dice(resize_logits(logits, size), target_BHW)
    return loss


def poly_lr(config: FewShotConfig, step: int, num_steps: int) -> float:
    """Learning rate of optimiser step `step` of `num_steps`, counted from 0."""
    rate: float = config.lr * (1 - step / num_steps) ** config.poly_power
    return rate


def _build_optimizer(
    config: FewShotConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters,
            lr=config.lr,
            betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
        )
    return torch.optim.SGD(
        parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
    )
