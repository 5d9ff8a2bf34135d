"""Crops: the rules of torchvision, to the pixel where nothing is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from experiments.imagenet.crops import centre_crop, random_crop
from experiments.imagenet.options import SizeOptions
from experiments.imagenet.sizes import train_size
from merge.errors import UsageError


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("width", "height"), [(500, 375), (375, 500), (101, 333), (256, 256), (90, 61), (256, 300)]
)
@pytest.mark.parametrize(("side", "part"), [(224, 0.875), (32, 1.0), (97, 0.8)])
def test_a_test_crop_is_torchvisions(width, height, side, part):
    from torchvision.transforms import CenterCrop, Compose, Resize
    from torchvision.transforms.functional import pil_to_tensor

    theirs = Compose([Resize(round(side / part)), CenterCrop(side)])
    image = noise(width, height)
    expected = pil_to_tensor(theirs(image)).numpy()
    assert np.array_equal(centre_crop(image, side, part), expected)


def test_published_weights_are_tested_as_torchvision_documents():
    import torch
    from torchvision.models import ResNet50_Weights

    from experiments.imagenet.model import Classifier

    image = noise(500, 375)
    recipe = ResNet50_Weights.IMAGENET1K_V1.transforms()
    ours = Classifier(torch.nn.Identity(), "")(
        torch.from_numpy(centre_crop(image, 224, 0.875))[None]
    )
    torch.testing.assert_close(ours[0], recipe(image), rtol=0, atol=2e-6)


def drawn_crops(num: int, **options: float) -> list[tuple[float, float, bool]]:
    """Area, aspect ratio and flip of crops, read from an image that holds its coordinates."""
    width, height = 240, 180
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 0], pixels[:, :, 1] = np.arange(width), np.arange(height)[:, None]
    image, found = Image.fromarray(pixels), []
    for seed in range(num):
        crop = random_crop(image, 64, np.random.default_rng(seed), **options).astype(int)
        row = crop[0, 0]
        is_flipped = bool(row[0] > row[-1])
        w, h = abs(row[-1] - row[0]) + 1, crop[1, -1, 0] - crop[1, 0, 0] + 1
        found.append((w * h / (width * height), w / h, is_flipped))
    return found


def test_random_crops_have_the_areas_ratios_and_flips_that_are_set():
    crops = drawn_crops(400, scale_min=0.25, flip_probability=0.3)
    areas, ratios, flips = (np.array(column) for column in zip(*crops, strict=True))
    assert 0.2 < areas.min() < 0.3
    assert areas.max() > 0.9
    assert ratios.min() > 0.7
    assert ratios.max() < 1.45
    assert abs(np.log(ratios).mean()) < 0.05
    assert 0.24 < flips.mean() < 0.36


def test_an_image_too_narrow_for_any_ratio_gives_its_centre():
    crop = random_crop(
        noise(20, 400), 32, np.random.default_rng(0), scale_min=0.9, flip_probability=0.0
    )
    expected = noise(20, 400).resize((32, 32), Image.Resampling.BILINEAR, box=(0, 186, 20, 213))
    assert np.array_equal(crop, np.asarray(expected).transpose(2, 0, 1))


def test_sizes_rise_in_the_epochs_that_are_set_and_in_steps():
    """The public recipe of 16 epochs: 160 for 12 of them, 192 for 4."""
    recipe = SizeOptions(first_size=160, last_size=192, ramp_start=11, ramp_end=13)
    assert [train_size(epoch, recipe) for epoch in range(16)] == [160] * 12 + [192] * 4
    slow = SizeOptions(first_size=128, last_size=224, ramp_start=1, ramp_end=7, size_step=16)
    assert [train_size(e, slow) for e in range(9)] == [128, 128, 144, 160, 176, 192, 208, 224, 224]
    same = SizeOptions(first_size=224, last_size=224)
    assert {train_size(epoch, same) for epoch in range(3)} == {224}
    with pytest.raises(UsageError, match="ramp_end=3 is before ramp_start=5"):
        SizeOptions(ramp_start=5, ramp_end=3)


def test_without_a_ramp_the_size_jumps():
    jump = SizeOptions(first_size=32, last_size=64, ramp_start=2, ramp_end=2)
    assert [train_size(epoch, jump) for epoch in range(4)] == [32, 32, 64, 64]
    assert math.isclose(32, train_size(1, jump))
