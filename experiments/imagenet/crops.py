"""Images from files to uint8 arrays: random crops to train on, the centre to test on."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""Left, upper, right, lower."""

_RATIOS = (3 / 4, 4 / 3)
_TRIES = 10


def random_crop(
    image: Image.Image,
    side: int,
    rng: np.random.Generator,
    *,
    scale_min: float,
    flip_probability: float,
) -> Bytes:
    """A random part of the image, resized to a square: RGB uint8 3HW.

    Its area is uniform in [scale_min, 1] of the image's, the logarithm of its aspect ratio in
    [log 3/4, log 4/3] (Szegedy et al., 2015), the rule of torchvision's RandomResizedCrop.
    """
    box = _random_box(image.width, image.height, rng, scale_min)
    part = image.resize((side, side), Image.Resampling.BILINEAR, box=box)
    pixels = _to_array(part)
    is_flipped = rng.random() < flip_probability
    return np.ascontiguousarray(pixels[:, :, ::-1]) if is_flipped else pixels


def centre_crop(image: Image.Image, side: int, part: float) -> Bytes:
    """The centre of the image, RGB uint8 3HW: `part` of its shorter side, resized to `side`.

    The rule of torchvision's Resize(side / part) and CenterCrop(side), to the pixel.
    """
    shorter = max(side, round(side / part))
    scale = shorter / min(image.width, image.height)
    if image.width <= image.height:
        size = (shorter, int(shorter * image.height / image.width))
    else:
        size = (int(shorter * image.width / image.height), shorter)
    resized = image if scale == 1 else image.resize(size, Image.Resampling.BILINEAR)
    left, upper = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return _to_array(resized.crop((left, upper, left + side, upper + side)))


def _random_box(width: int, height: int, rng: np.random.Generator, scale_min: float) -> Box:
    for _ in range(_TRIES):
        area = width * height * rng.uniform(scale_min, 1.0)
        ratio = math.exp(rng.uniform(math.log(_RATIOS[0]), math.log(_RATIOS[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    return _central_box(width, height)


def _central_box(width: int, height: int) -> Box:
    """The largest box around the centre with an aspect ratio in bounds."""
    w = min(width, round(height * _RATIOS[1]))
    h = min(height, round(width / _RATIOS[0]))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def _to_array(image: Image.Image) -> Bytes:
    return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))
