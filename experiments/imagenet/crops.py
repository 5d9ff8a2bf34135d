"""Images from files to uint8 arrays: random crops to train on, the centre to test on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.datasets.random_parts import random_box

Bytes = NDArray[np.uint8]


def random_crop(
    image: Image.Image,
    side: int,
    rng: np.random.Generator,
    *,
    scale_min: float,
    flip_probability: float,
) -> Bytes:
    """A random part of the image, resized to a square: RGB uint8 3HW."""
    box = random_box(image.width, image.height, rng, scale_min)
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


def _to_array(image: Image.Image) -> Bytes:
    return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))
