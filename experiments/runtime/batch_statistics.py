"""Whether a training normalises by the statistics of what is computed at a time."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.runtime.stages import Stage, resting_modules


def trains_batch_norm(model: nn.Module, stages: Iterable[Stage]) -> bool:
    """Whether batch norm is in training mode in any of `stages`; leaves `model` in eval().

    Its mean and variance are those of a micro-batch, so how a batch is split decides the number.
    """
    found = any(_uses_batch(model, stage) for stage in stages)
    model.eval()
    return found


def _uses_batch(model: nn.Module, stage: Stage) -> bool:
    # As a step does it: a model may keep parts of itself in eval().
    model.train()
    for module in resting_modules(model, stage):
        module.eval()
    return any(module.training for module in model.modules() if isinstance(module, _BatchNorm))
