"""How 8-bit images are resized, cropped and flipped; sizes are rounded as torchvision does."""

from __future__ import annotations

import numpy as np
from PIL import Image

from experiments.datasets.labels import IGNORE, Bytes
from experiments.datasets.random_parts import random_box


def with_short_side(size_hw: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width whose shorter one is `side`; the other is rounded down."""
    height, width = size_hw
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def resized(image_HW3: Bytes, size_hw: tuple[int, int]) -> Bytes:
    """An image, bilinear with antialiasing, as Pillow and torchvision's recipes resize."""
    return np.array(Image.fromarray(image_HW3).resize(size_hw[::-1], Image.Resampling.BILINEAR))


def resized_labels(labels_HW: Bytes, size_hw: tuple[int, int]) -> Bytes:
    """A label map: the nearest pixel."""
    return np.array(Image.fromarray(labels_HW).resize(size_hw[::-1], Image.Resampling.NEAREST))


def random_view(
    image_HW3: Bytes,
    labels_HW: Bytes,
    rng: np.random.Generator,
    *,
    sides: tuple[int, int],
    crop: int,
    flip_probability: float,
) -> tuple[Bytes, Bytes]:
    """A crop of the image at a random scale, perhaps flipped, with its label map.

    The shorter side is drawn from `sides`, both included. Where the image is smaller than the crop
    its right and lower edges are black, and ignored.
    """
    size_hw = with_short_side(labels_HW.shape, int(rng.integers(sides[0], sides[1] + 1)))
    image_HW3, labels_HW = resized(image_HW3, size_hw), resized_labels(labels_HW, size_hw)
    if rng.random() < flip_probability:
        image_HW3, labels_HW = image_HW3[:, ::-1], labels_HW[:, ::-1]
    below, right = (max(crop - side, 0) for side in size_hw)
    image_HW3 = np.pad(image_HW3, ((0, below), (0, right), (0, 0)))
    labels_HW = np.pad(labels_HW, ((0, below), (0, right)), constant_values=IGNORE)
    top, left = (int(rng.integers(side - crop + 1)) for side in labels_HW.shape)
    window = (slice(top, top + crop), slice(left, left + crop))
    return np.ascontiguousarray(image_HW3[window]), np.ascontiguousarray(labels_HW[window])


def random_crop(
    image_HW3: Bytes, rng: np.random.Generator, *, size: int, area_min: float, flip: float
) -> Bytes:
    """A random part of the image with another shape, resized to a square, perhaps flipped."""
    height, width = image_HW3.shape[:2]
    left, top, right, bottom = random_box(width, height, rng, area_min)
    crop = resized(image_HW3[top:bottom, left:right], (size, size))
    return np.ascontiguousarray(crop[:, ::-1]) if rng.random() < flip else crop


def centre_crop(image_HW3: Bytes, *, short_side: int, size: int) -> Bytes:
    """The square in the middle of the resized image."""
    size_hw = with_short_side(image_HW3.shape[:2], max(short_side, size))
    image_HW3 = resized(image_HW3, size_hw)
    top, left = (round((side - size) / 2) for side in size_hw)
    return image_HW3[top : top + size, left : left + size]
