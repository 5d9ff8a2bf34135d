"""Activation checkpointing changes memory alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.runtime.activations import checkpointed


def trained(*, enabled: bool, momentum: float | None) -> tuple[nn.Module, list[torch.Tensor], int]:
    torch.manual_seed(0)
    block = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, momentum=momentum), nn.Dropout(0.5), nn.ReLU()
    )
    calls = []
    block.register_forward_pre_hook(lambda *_: calls.append(1))
    head = nn.Linear(4, 1)
    for _ in range(2):
        images = torch.rand(3, 1, 6, 6, requires_grad=True)
        head(checkpointed(block, images, enabled=enabled).mean((2, 3))).sum().backward()
    gradients = [each.grad for each in (*block.parameters(), *head.parameters())]
    return block, [each for each in gradients if each is not None], len(calls)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_gradients_and_batch_statistics_are_those_of_a_plain_pass(momentum):
    """A second pass would update the running statistics twice, and draw other dropout."""
    plain, expected, num_plain = trained(enabled=False, momentum=momentum)
    saving, found, num_saving = trained(enabled=True, momentum=momentum)
    assert (num_plain, num_saving) == (2, 4)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    for name, value in plain.state_dict().items():
        assert torch.equal(saving.state_dict()[name], value), name
    assert saving[1].momentum == momentum  # type: ignore[index]


def test_an_evaluation_computes_nothing_twice():
    calls = []
    module = nn.Identity()
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        checkpointed(module, torch.ones(1), enabled=True)
    assert len(calls) == 1
