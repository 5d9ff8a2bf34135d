"""Images and masks move together, masks stay masks, and logits find their way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.fewshot import new_method
from torch.nn.functional import one_hot

from experiments.backbones.cells import cells_to_pixels, pixels_to_cells
from experiments.fewshot.episodes.transforms import (
    FitLongerSide,
    Placement,
    Squash,
    TrainTransform,
    binary_mask,
    restore_logits,
)

FILL = (10.0, 20.0, 30.0)


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A white rectangle on black that is the mask's foreground, lower left of the middle."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 2 : height * 7 // 8, width // 8 : width // 2] = 1
    return np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), mask


def scattered(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.choice(np.array([0, 1, 255], np.uint8), (height, width))


sides = st.integers(1, 90)


@given(sides, sides, st.integers(1, 64), st.integers(0, 2**32))
def test_masks_only_ever_hold_the_three_values_and_samples_have_one_size(height, width, size, seed):
    image, mask = scattered(height, width, seed)
    samples = [
        TrainTransform(size=size, scale_range=(0.5, 2.0))(image, mask, np.random.default_rng(seed)),
        FitLongerSide(size=size)(image, mask)[0],
        Squash(size=size)(image, mask)[0],
    ]
    for sample in samples:
        image_3HW = sample.image.painted(FILL)
        assert (image_3HW.shape, sample.mask.shape) == ((3, size, size), (size, size))
        assert (image_3HW.dtype, sample.mask.dtype) == (torch.float32, torch.uint8)
        assert set(sample.mask.unique().tolist()) <= {0, 1, 255}
        assert image_3HW.min() >= 0
        assert image_3HW.max() <= 255


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size_hw", [(80, 120), (120, 80)])
def test_image_and_mask_take_the_same_scale_flip_and_crop(seed, size_hw):
    transform = TrainTransform(size=96, scale_range=(0.6, 1.8), scale_of="image_size")
    sample = transform(*picture(*size_hw), np.random.default_rng(seed))
    counted = sample.mask != 255
    white = sample.image.painted(FILL)[0] > 127
    assert (white == (sample.mask == 1))[counted].float().mean() > 0.98
    assert (sample.mask == 1).any()


def test_padding_is_255_in_the_mask_and_the_fill_colour_in_the_image():
    image, mask = picture(40, 80)
    padded = TrainTransform(size=64, scale_range=(0.5, 0.5), scale_of="image_size")
    samples = [
        padded(image, mask, np.random.default_rng(0)),
        FitLongerSide(size=64)(image, mask)[0],
    ]
    for sample, num_pixels in zip(samples, (16 * 32, 32 * 64), strict=True):
        padding = sample.mask == 255
        assert (~padding).sum() == num_pixels
        assert (sample.image.painted(FILL)[:, padding] == torch.tensor(FILL)[:, None]).all()


def test_a_sample_is_fixed_by_its_generator():
    image, mask = scattered(70, 50, 0)
    transform = TrainTransform(size=48, scale_range=(0.8, 1.5))
    first, again, other = (
        transform(image, mask, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first.image.pixels, again.image.pixels)
    assert torch.equal(first.image.box, again.image.box)
    assert torch.equal(first.mask, again.mask)
    assert not torch.equal(first.image.pixels, other.image.pixels)


def test_half_of_the_samples_are_flipped():
    image, mask = picture(64, 64)
    transform = TrainTransform(size=64, scale_range=(1.0, 1.0))
    samples = [transform(image, mask, np.random.default_rng(seed)) for seed in range(200)]
    flipped = [
        torch.equal(sample.mask, torch.from_numpy(mask[:, ::-1].copy())) for sample in samples
    ]
    kept = [torch.equal(sample.mask, torch.from_numpy(mask)) for sample in samples]
    assert sum(flipped) + sum(kept) == 200
    assert 70 < sum(flipped) < 130


@pytest.mark.parametrize("corner", [(0, 0), (0, 63), (63, 0), (63, 63)])
def test_a_crop_keeps_some_of_an_object_in_a_far_corner(corner):
    image, mask = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[corner] = 1
    transform = TrainTransform(size=64, scale_range=(3.0, 3.0))
    for seed in range(20):
        assert (transform(image, mask, np.random.default_rng(seed)).mask == 1).any()


def test_a_scale_is_of_the_original_size_unless_it_is_of_the_crops():
    image, mask = picture(40, 80)
    for scale_of, share in (("original", 20 * 40), ("image_size", 80 * 160)):
        transform = TrainTransform(size=160, scale_range=(0.5, 0.5), scale_of=scale_of)
        if scale_of == "image_size":
            transform = TrainTransform(size=160, scale_range=(1.0, 1.0), scale_of=scale_of)
        sample = transform(image, mask, np.random.default_rng(0))
        assert (sample.mask != 255).sum() == share


def test_a_crop_keeps_most_of_an_object_that_fits():
    image, mask = np.zeros((300, 300, 3), np.uint8), np.zeros((300, 300), np.uint8)
    mask[100:140, 160:200] = 1
    kept = {
        least: [
            int((transform(image, mask, np.random.default_rng(seed)).mask == 1).sum())
            for seed in range(40)
        ]
        for least in (0.0, 0.85)
        for transform in (
            TrainTransform(
                size=120, scale_range=(1.0, 1.0), flip_probability=0.0, crop_keeps=least
            ),
        )
    }
    assert min(kept[0.85]) >= 0.85 * 1600
    assert min(kept[0.0]) < 0.5 * 1600


def test_a_crop_smaller_than_the_object_is_taken_all_the_same():
    image, mask = np.zeros((100, 100, 3), np.uint8), np.ones((100, 100), np.uint8)
    transform = TrainTransform(size=32, scale_range=(1.0, 1.0))
    assert (transform(image, mask, np.random.default_rng(0)).mask == 1).all()


def test_ignored_pixels_become_background_where_hsnets_training_has_them_so():
    image, mask = np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8)
    mask[:32] = 1
    for is_background, expected in ((False, {1, 255}), (True, {0, 1})):
        transform = TrainTransform(
            size=64, scale_range=(1.0, 1.0), is_ignored_background=is_background
        )
        found = transform(image, mask, np.random.default_rng(0)).mask.unique().tolist()
        assert set(found) == expected


@pytest.mark.parametrize(
    ("size_hw", "resized_hw"),
    [((375, 500), (352, 472)), ((500, 333), (472, 312)), ((473, 5), (473, 5))],
)
def test_the_sides_of_a_test_image_are_multiples_of_eight_where_bam_has_them_so(
    size_hw, resized_hw
):
    sample, placement = FitLongerSide(size=473, multiple=8)(*picture(*size_hw))
    assert placement == Placement(size_hw, resized_hw, (473, 473))
    assert (sample.mask != 255).sum() == resized_hw[0] * resized_hw[1]


@pytest.mark.parametrize(
    ("size_hw", "resized_hw"),
    [((50, 100), (32, 64)), ((100, 50), (64, 32)), ((8, 8), (64, 64)), ((1, 640), (1, 64))],
)
def test_the_longer_side_fits_and_the_aspect_ratio_stays(size_hw, resized_hw):
    _, placement = FitLongerSide(size=64)(*picture(*size_hw))
    assert placement == Placement(size_hw, resized_hw, (64, 64))


@pytest.mark.parametrize("transform", [FitLongerSide(size=129), Squash(size=129)])
@pytest.mark.parametrize("size_hw", [(90, 140), (140, 90), (300, 200), (129, 129)])
def test_a_right_answer_at_the_models_size_is_right_at_the_original_size(transform, size_hw):
    image, mask = picture(*size_hw)
    sample, placement = transform(image, mask)
    classes = one_hot((sample.mask == 1).long(), 2).permute(2, 0, 1)[None].float()
    restored = restore_logits(classes, placement)[0].argmax(0).numpy()
    assert restored.shape == mask.shape
    assert iou(restored, mask) > 0.95


def test_logits_at_feature_resolution_are_restored_without_a_shift():
    image, mask = picture(400, 300)
    sample, placement = FitLongerSide(size=128)(image, mask)
    grid = new_method("prototype", "efficientnet_lite0").backbone.grid((128, 128))
    cells = pixels_to_cells((sample.mask == 1).float()[None, None], grid)
    logits = cells_to_pixels(torch.cat([1 - cells, cells], dim=1), grid)
    restored = restore_logits(logits, placement)
    centre = np.argwhere(restored[0].argmax(0).numpy()).mean(axis=0)
    # A cell of features is 25 pixels of the original.
    assert np.abs(centre - np.argwhere(mask).mean(axis=0)).max() < 5


def test_logits_in_the_padding_never_reach_the_image():
    placement = Placement((20, 50), (26, 64), (64, 64))
    logits = torch.zeros(1, 2, 64, 64)
    logits[:, :, 26:] = 1e6
    assert restore_logits(logits, placement).abs().max() == 0


def test_a_binary_mask_keeps_the_ignored_pixels_and_drops_other_classes():
    labels = np.array([[0, 3, 255], [7, 3, 0]], np.uint8)
    assert binary_mask(labels, 3).tolist() == [[0, 1, 255], [0, 1, 0]]


def iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float((prediction & truth).sum() / (prediction | truth).sum())
