"""What a loader hands to a training or a test: images as uint8, normalised later on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.datasets.image_folder import ImageFolder
from experiments.datasets.labels import open_photograph
from experiments.imagenet.crops import Bytes, centre_crop, random_crop
from experiments.imagenet.options import AugmentationOptions
from experiments.runtime.seeds import numpy_generator

Crop = Callable[[Image.Image, int], Bytes]
"""From an RGB image and its index to a square of pixels, uint8 3HW."""


@dataclass(frozen=True, slots=True)
class RandomCrops:
    """Training images of one epoch; a crop follows from (seed, epoch, index) alone."""

    side: int
    options: AugmentationOptions
    seed: int
    epoch: int

    def __call__(self, image: Image.Image, index: int) -> Bytes:
        rng = numpy_generator(self.seed, "train", self.epoch, index)
        return random_crop(
            image,
            self.side,
            rng,
            scale_min=self.options.scale_min,
            flip_probability=self.options.flip_probability,
        )


@dataclass(frozen=True, slots=True)
class CentreCrops:
    """Images as in a test."""

    side: int
    part: float

    def __call__(self, image: Image.Image, index: int) -> Bytes:
        del index
        return centre_crop(image, self.side, self.part)


@dataclass(frozen=True, slots=True)
class Images:
    """Images of a split by place, each with its label."""

    source: ImageFolder
    crop: Crop
    chosen: NDArray[np.int64]
    """Their indices in `source`."""

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, place: int) -> tuple[Bytes, int]:
        """RGB uint8 3HW and the label. DataError names a file that cannot be read."""
        index = int(self.chosen[place])
        image = open_photograph(self.source.path(index))
        return self.crop(image, index), int(self.source.labels[index])
