"""Activation checkpointing: less memory for one more forward pass of a part of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
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
    return _twice(module, module, *inputs)


def checkpoint_blocks(network: nn.Module) -> None:
    """Each block of a network computes its activations again while it trains.

    Block by block: a network that is computed again as a whole has all of its activations in memory
    once more when its backward pass begins. Measured with edgenext_base, that saves nothing.
    A block is a module in a `Sequential` or `ModuleList`, of the network's parts or of their
    `blocks`. What is no block, such as a stem, stays as it is.
    """
    for part in network.children():
        for block in _blocks(part):
            block.forward = partial(_block_forward, block, block.forward)


def _blocks(part: nn.Module) -> list[nn.Module]:
    blocks = (
        part if isinstance(part, nn.Sequential | nn.ModuleList) else getattr(part, "blocks", ())
    )
    # A single activation may work in place, on an input that is needed a second time.
    return [each for each in blocks if any(True for _ in each.children())]


def _block_forward(
    block: nn.Module,
    forward: Callable[..., Any],
    *inputs: Any,  # noqa: ANN401
    **named: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    is_trained = block.training and any(each.requires_grad for each in block.parameters())
    if not (is_trained and torch.is_grad_enabled()):
        return forward(*inputs, **named)
    return _twice(block, forward, *inputs, **named)


def _twice(
    module: nn.Module,
    forward: Callable[..., Any],
    *inputs: Any,  # noqa: ANN401
    **named: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _resting_statistics(module)

    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **named)


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
