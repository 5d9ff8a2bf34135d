"""Pairs as tensors: what a loader yields for training and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from torch import Tensor

from experiments.camouflage.data.pairs import Pair, object_of, read_pair
from experiments.camouflage.options import AugmentOptions
from experiments.runtime.seeds import numpy_generator

_BILINEAR = Image.Resampling.BILINEAR


class TrainBatch(NamedTuple):
    """Training images of one rank."""

    image: Tensor
    """B3HW, uint8"""
    truth: Tensor
    """B1HW, uint8 0/1"""


@dataclass(frozen=True, slots=True)
class EvalItem:
    """One image at the model's size, with its mask at its own size."""

    image: Tensor
    """3HW, uint8"""
    truth: NDArray[np.bool_]
    """HW, at the image's own size"""


@dataclass(frozen=True, slots=True)
class TrainImages:
    """The training images of an epoch, varied by numbers of (seed, epoch, index) alone."""

    pairs: Sequence[Pair]
    size_px: int
    augment: AugmentOptions
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> TrainBatch:
        rng = numpy_generator(self.seed, "augment", self.epoch, index)
        image, mask = vary(*read_pair(self.pairs[index]), self.size_px, self.augment, rng)
        return TrainBatch(
            _as_tensor(image), torch.from_numpy(object_of(mask)[None].astype(np.uint8))
        )


@dataclass(frozen=True, slots=True)
class EvalImages:
    """Images as they are tested: squeezed to a square, their masks untouched."""

    pairs: Sequence[Pair]
    size_px: int

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> EvalItem:
        image, mask = read_pair(self.pairs[index])
        squeezed = image.resize((self.size_px, self.size_px), _BILINEAR)
        return EvalItem(_as_tensor(squeezed), object_of(mask))


def vary(
    image: Image.Image,
    mask: Image.Image,
    size_px: int,
    augment: AugmentOptions,
    rng: np.random.Generator,
) -> tuple[Image.Image, Image.Image]:
    """A random crop as a square, perhaps flipped, of image and mask; other colours of the image."""
    sides = np.array(image.size)
    kept = np.maximum(1, (sides * rng.uniform(augment.crop_min, 1, size=2)).astype(int))
    left, top = (int(rng.integers(0, room + 1)) for room in sides - kept)
    box = (left, top, left + int(kept[0]), top + int(kept[1]))
    image, mask = (each.resize((size_px, size_px), _BILINEAR, box=box) for each in (image, mask))
    if rng.random() < augment.flip_probability:
        flip = Image.Transpose.FLIP_LEFT_RIGHT
        image, mask = image.transpose(flip), mask.transpose(flip)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(1 + augment.colour_jitter * rng.uniform(-1, 1))
    return image, mask


def _as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
