"""Activation checkpointing: less memory for one more forward pass of a part of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(module: nn.Module, *inputs: Any, enabled: bool) -> Any:  # noqa: ANN401
    """`module(*inputs)`; where `enabled`, its activations are computed again in the backward pass.

    Numbers stay the same: the second pass draws the same random numbers, and leaves the running
    statistics of batch norm alone.
    """
    if not (enabled and torch.is_grad_enabled()):
        return module(*inputs)

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _resting_statistics(module)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _resting_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norm normalises as before, but does not count the batch a second time."""
    before = [
        (each, each.momentum, each.num_batches_tracked, each.num_batches_tracked.clone())
        for each in module.modules()
        if isinstance(each, _BatchNorm) and each.num_batches_tracked is not None
    ]
    for norm, *_ in before:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, counter, num_batches in before:
            norm.momentum = momentum
            counter.copy_(num_batches)
