"""Losses against numpy, with ignored pixels and auxiliary outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.fewshot import even_grid
from torch import Tensor

from experiments.fewshot.models.base import Output, predict, resize_logits
from experiments.fewshot.models.losses import (
    cross_entropy,
    dice,
    mask_loss,
    segmentation_loss,
    two_class_sum,
)


def _case(seed: int, size: int = 6) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(scale=3, size=(2, 2, size, size)).astype(np.float32))
    target = rng.choice(np.array([0, 1, 255], np.uint8), size=(2, size, size))
    return logits, torch.from_numpy(target)


@given(st.integers(0, 2**32 - 1))
def test_cross_entropy_is_the_mean_over_valid_pixels(seed: int) -> None:
    logits, target = _case(seed)
    values, labels = logits.double().numpy(), target.numpy()
    terms = [
        np.logaddexp(*values[b, :, y, x]) - values[b, labels[b, y, x], y, x]
        for b, y, x in np.argwhere(labels != 255)
    ]
    assert cross_entropy(logits, target).item() == pytest.approx(np.mean(terms), rel=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_dice_leaves_ignored_pixels_out(seed: int) -> None:
    logits, target = _case(seed)
    scores, labels = logits.double().numpy(), target.numpy()
    expected = []
    for score, label in zip(scores, labels, strict=True):
        p = 1 / (1 + np.exp(score[0] - score[1]))[label != 255]
        t = (label == 1)[label != 255]
        expected.append(1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    assert dice(logits, target).item() == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("dice_weight", [0.0, 0.5])
def test_a_fully_ignored_target_gives_zero_loss_and_zero_gradient(dice_weight: float) -> None:
    logits = torch.randn(2, 2, 5, 5, requires_grad=True)
    target = torch.full((2, 20, 20), 255, dtype=torch.uint8)
    loss = segmentation_loss(
        Output(logits, even_grid((5, 5)), ((logits, 0.2),)), target, dice_weight=dice_weight
    )
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_an_ignored_pixel_gets_no_gradient_and_moves_no_other() -> None:
    logits, target = _case(0)
    free = logits.clone().requires_grad_()
    grid = even_grid((6, 6), step=1)
    mask_loss(free, target, grid, dice_weight=1.0).backward()
    is_ignored = (target == 255)[:, None].expand_as(logits)
    assert torch.equal(free.grad[is_ignored], torch.zeros(int(is_ignored.sum())))
    changed = torch.where(is_ignored, 50.0, logits)
    torch.testing.assert_close(
        mask_loss(changed, target, grid, 1.0), mask_loss(logits, target, grid, 1.0)
    )


def test_auxiliary_logits_count_by_their_weights() -> None:
    (first, target), (second, _), (third, _) = (_case(seed) for seed in range(3))
    grid = even_grid((6, 6), step=1)
    output = Output(first, grid, ((second, 1.0), (third, 0.2)))
    loss = segmentation_loss(output, target, dice_weight=0.3)
    parts = [mask_loss(logits, target, grid, 0.3) for logits in (first, second, third)]
    torch.testing.assert_close(loss, parts[0] + parts[1] + 0.2 * parts[2])


def test_a_tie_between_foreground_and_background_is_background() -> None:
    logits = torch.tensor([[[[0.0, 2.0]], [[0.0, 3.0]]]])
    assert predict(logits, even_grid((1, 2), step=1)).tolist() == [[[False, True]]]


def test_coarse_half_precision_logits_are_resized_and_computed_in_float32() -> None:
    logits, _ = _case(0)
    target = _case(1, size=24)[1]
    grid = even_grid((6, 6))
    loss = mask_loss(logits.to(torch.bfloat16), target, grid)
    assert loss.dtype == torch.float32
    expected = cross_entropy(resize_logits(logits.to(torch.bfloat16).float(), grid), target)
    assert loss.item() == expected.item()


@given(st.integers(0, 2**32 - 1))
def test_the_deterministic_form_of_a_gpu_is_the_same_sum_forward_and_in_its_gradient(
    seed: int,
) -> None:
    logits, target = _case(seed)
    logits = logits.double().requires_grad_()
    num_valid = (target != 255).sum().clamp(min=1)
    ours, oracle = two_class_sum(logits, target), cross_entropy(logits, target) * num_valid
    torch.testing.assert_close(ours, oracle)
    grads = [torch.autograd.grad(x, logits)[0] for x in (ours, oracle)]
    torch.testing.assert_close(*grads)
