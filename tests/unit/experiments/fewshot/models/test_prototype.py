"""Method `prototype`: pooling against an oracle, and what training-free means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.fewshot import even_grid, new_method
from torch import Tensor

from experiments.fewshot.models.base import area_fractions, predict
from experiments.fewshot.models.losses import segmentation_loss
from experiments.fewshot.models.prototype import pool_shots

SIDE = 64


def _episodes(batch: int, shots: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squares of one random colour on noise: query, support, support mask, target."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 90, (batch, shots + 1, 3, SIDE, SIDE))
    masks = np.zeros((batch, shots + 1, SIDE, SIDE), np.uint8)
    for b in range(batch):
        colour = rng.uniform(120, 255, (3, 1, 1))
        for k in range(shots + 1):
            y, x = rng.integers(0, SIDE // 2, 2)
            masks[b, k, y : y + 28, x : x + 28] = 1
            images[b, k, :, y : y + 28, x : x + 28] = colour
    image, mask = torch.from_numpy(images).float(), torch.from_numpy(masks)
    return image[:, 0], image[:, 1:], mask[:, 1:], mask[:, 0]


def test_pooling_equals_the_mean_over_shots_of_area_weighted_means() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2, 3, 5, 4, 6)).astype(np.float32)
    mask = rng.choice(np.array([0, 1, 255], np.uint8), size=(2, 3, 16, 24))
    expected = np.zeros((2, 5))
    for b in range(2):
        means = []
        for k in range(3):
            cells = (mask[b, k] == 1).reshape(4, 4, 6, 4).mean((1, 3))
            means.append((features[b, k] * cells).sum((1, 2)) / cells.sum())
        expected[b] = np.mean(means, 0)
    pooled = pool_shots(torch.from_numpy(features), torch.from_numpy(mask), 1, even_grid((4, 6)))
    np.testing.assert_allclose(pooled.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_ignored_pixels_change_no_prototype() -> None:
    features = torch.randn(1, 1, 3, 4, 4)
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    mask[..., :8, :8] = 1
    padded = mask.clone()
    padded[..., 12:] = 255
    changed = features.clone()
    changed[..., 3] = 1e6
    for label in (0, 1):
        before, after = (
            pool_shots(x, padded, label, even_grid((4, 4))) for x in (features, changed)
        )
        assert torch.equal(before, after)


def test_a_shot_without_foreground_is_left_out_and_none_at_all_gives_zero() -> None:
    features = torch.randn(1, 2, 3, 4, 4)
    mask = torch.zeros(1, 2, 16, 16, dtype=torch.uint8)
    grid = even_grid((4, 4))
    assert torch.equal(pool_shots(features, mask, 1, grid), torch.zeros(1, 3))
    mask[:, 0, :5, :7] = 1
    only_first = pool_shots(features[:, :1], mask[:, :1], 1, grid)
    torch.testing.assert_close(pool_shots(features, mask, 1, grid), only_first)


def test_a_single_pixel_keeps_weight_at_feature_resolution() -> None:
    mask = torch.zeros(1, 473, 473, dtype=torch.uint8)
    mask[0, 200, 300] = 1
    grid = new_method("prototype", "efficientnet_lite0").backbone.grid((473, 473))
    fractions = area_fractions(mask, 1, grid)
    assert 0 < fractions.sum() < 0.05


def test_the_untrained_model_is_the_training_free_classifier_whatever_the_seed() -> None:
    query, support, mask, target = _episodes(2, 1)
    logits = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = new_method("prototype", "efficientnet_lite0").eval()
        with torch.no_grad():
            logits.append((output := model(query, support, mask)).logits)
    assert torch.equal(*logits)
    foreground = predict(logits[0], output.grid)
    truth = target == 1
    assert (foreground & truth).sum() / (foreground | truth).sum() > 0.4


def test_training_lowers_the_loss_and_leaves_the_backbone_alone() -> None:
    torch.manual_seed(0)
    model = new_method("prototype", "efficientnet_lite0")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
    query, support, mask, target = _episodes(4, 1)
    losses = []
    for _ in range(8):
        loss = segmentation_loss(model(query, support, mask), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert sum(parameter.numel() for parameter in trained) < 200_000
    assert not any(
        name.startswith("backbone.") and p.requires_grad for name, p in model.named_parameters()
    )


@pytest.mark.parametrize("label", [0, 1, 255])
def test_uniform_support_masks_give_finite_logits_and_gradients(label: int) -> None:
    model = new_method("prototype", "efficientnet_lite0")
    query, support, mask, target = _episodes(1, 2)
    output = model(query, support, torch.full_like(mask, label))
    segmentation_loss(output, target).backward()
    assert output.logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_episodes_of_a_batch_and_the_order_of_shots_do_not_matter() -> None:
    model = new_method("prototype", "efficientnet_lite0").eval()
    query, support, mask, _ = _episodes(3, 2)
    with torch.no_grad():
        together = model(query, support, mask).logits
        alone = model(query[1:2], support[1:2].flip(1), mask[1:2].flip(1)).logits
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_segmenting_kept_features_equals_the_whole_forward_pass() -> None:
    model = new_method("prototype", "efficientnet_lite0").eval()
    query, support, mask, _ = _episodes(1, 2)
    with torch.no_grad():
        shots = [model.encode(support[:, k]) for k in range(2)]
        kept = tuple(torch.stack(levels, dim=1) for levels in zip(*shots, strict=True))
        expected = model(query, support, mask).logits
        logits = model.segment(query, model.encode(query), kept, mask).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_levels_of_unequal_stride_meet_at_the_deepest_ones_resolution() -> None:
    model = new_method("prototype", "efficientnet_lite0", output_stride=16).eval()
    query, support, mask, _ = _episodes(1, 1)
    assert model(query, support, mask).logits.shape == (1, 2, SIDE // 16, SIDE // 16)
