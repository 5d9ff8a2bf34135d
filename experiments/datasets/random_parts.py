"""A random part of an image, as classifiers are trained on. No torch."""

from __future__ import annotations

import math

import numpy as np

Box = tuple[int, int, int, int]
"""Left, upper, right, lower."""

_RATIOS = (3 / 4, 4 / 3)
_TRIES = 10


def random_box(width: int, height: int, rng: np.random.Generator, area_min: float) -> Box:
    """A part of an image in pixels.

    Its area is uniform in [area_min, 1] of the image's, the logarithm of its aspect ratio in
    [log 3/4, log 4/3] (Szegedy et al., 2015), the rule of torchvision's RandomResizedCrop.
    """
    for _ in range(_TRIES):
        area = width * height * rng.uniform(area_min, 1.0)
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
