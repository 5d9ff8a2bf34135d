"""Images, fixations and centre bias as a training and an evaluation take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.runtime.seeds import numpy_generator
from experiments.saliency.centre_bias import CentreBias, Pool
from experiments.saliency.metrics import Fixated
from experiments.saliency.points import (
    Grid,
    Size,
    cells_of,
    cells_of_fractions,
    counts_of,
    rescaled,
)
from experiments.saliency.source import Rgb, Source, Stimulus, read_rgb

TrainBatch = dict[str, Tensor]
"""image B3HW uint8; counts Bhw and log_bias Bhw float32, on cells of CELL_PX."""

CELL_PX = 8
"""Pixels per cell of a training's density: the stride of the finest features."""


@dataclass(frozen=True, slots=True)
class TrainItems:
    """The training images of one epoch."""

    source: Source
    images: Sequence[int]
    bias: CentreBias
    size: Size
    flip_probability: float
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> TrainBatch:
        place = self.images[index]
        cells = grid_size(self.size)
        rng = numpy_generator(self.seed, "flip", self.epoch, index)
        step = -1 if rng.random() < self.flip_probability else 1
        image_HW3 = resized(read_rgb(self.source, place), self.size)[:, ::step]
        counts_hw = fixation_counts(self.source.stimuli[place], cells)[:, ::step]
        log_bias_hw = self.bias.log_density(place, cells)[:, ::step]
        return {
            "image": as_image(image_HW3),
            "counts": _as_floats(counts_hw),
            "log_bias": _as_floats(log_bias_hw),
        }


@dataclass(frozen=True, slots=True)
class EvalItem:
    """One tested image."""

    image: Tensor
    """uint8, at the model's input size."""
    truth: Fixated
    """At the image's own size; its baseline is the centre bias that the model starts from."""


@dataclass(frozen=True, slots=True)
class EvalItems:
    """The tested images; metrics are those of their own sizes."""

    source: Source
    images: Sequence[int]
    bias: CentreBias
    others: Pool
    """Fixations of the whole data set, trained or tested: those of other images are negatives."""
    size: Size
    blur_px: float

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> EvalItem:
        place = self.images[index]
        stimulus = self.source.stimuli[place]
        image = resized(read_rgb(self.source, place), self.size)
        truth = Fixated(
            fixations=cells_of(stimulus.points, stimulus.size),
            others=self.others.cells_without(place, stimulus.size),
            log_baseline=self.bias.log_density(place, stimulus.size),
            blur_px=self.blur_px,
        )
        return EvalItem(as_image(image), truth)


def grid_size(size: Size) -> Size:
    """Cells of the density that is trained on images of `size`."""
    return -(-size[0] // CELL_PX), -(-size[1] // CELL_PX)


def fixation_counts(stimulus: Stimulus, to: Size) -> Grid:
    """Fixations in each pixel of the image once it is resized to `to`, H x W."""
    fractions_N2 = rescaled(stimulus.points, stimulus.size, (1, 1))
    return counts_of(cells_of_fractions(fractions_N2, to), to)


def resized(image_HW3: Rgb, size: Size) -> Rgb:
    """The image at `size`, where a reduced one is averaged over the pixels it stands for."""
    image = Image.fromarray(image_HW3)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def as_image(image_HW3: Rgb) -> Tensor:
    """RGB of 0 to 255, uint8 3HW."""
    return torch.from_numpy(np.ascontiguousarray(image_HW3.transpose(2, 0, 1)))


def _as_floats(grid: Grid) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(grid, np.float32))
