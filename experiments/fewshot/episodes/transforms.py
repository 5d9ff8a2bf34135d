"""Images and their masks made ready for a model, together, and logits brought back.

Images come as uint8 RGB HW3 and leave as bytes on a canvas, which is painted on the device; masks
are uint8 HW with 0 background, 1 foreground, 255 ignored. Masks are only ever sampled at the
nearest pixel, and what is padded is 255 in the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch.nn.functional import interpolate

from experiments.datasets.labels import IGNORE, Bytes
from experiments.datasets.resizing import Resampling, resize_labels, resize_photograph
from experiments.fewshot.canvas import Canvases, canvas_of

ScaleOf = Literal["original", "image_size"]

_MAX_REDRAWS = 30


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its mask at the model's size."""

    image: Canvases
    """3HW."""
    mask: torch.Tensor
    """uint8 HW, 0/1/255."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image went: from `original_hw` to `resized_hw` in a canvas's top left corner."""

    original_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    canvas_hw: tuple[int, int]


class EvalTransform(Protocol):
    """How a protocol brings an image to the model's size."""

    def __call__(self, image_HW3: Bytes, mask_HW: Bytes) -> tuple[Sample, Placement]: ...


def binary_mask(labels_HW: Bytes, class_id: int) -> Bytes:
    """A label map's mask of one class: 1 for it, 255 as before, 0 for every other class."""
    mask_HW: Bytes = (labels_HW == class_id).astype(np.uint8)
    mask_HW[labels_HW == IGNORE] = IGNORE
    return mask_HW


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLongerSide:
    """Longer side to `size`, the rest padded at the bottom or right (protocol `bam`).

    Both sides are then rounded down to a multiple of `multiple`: BAM's code has 8, so that 473
    becomes 472.
    """

    size: int
    multiple: int = 1
    resampling: Resampling = "opencv"

    def __call__(self, image_HW3: Bytes, mask_HW: Bytes) -> tuple[Sample, Placement]:
        height, width = mask_HW.shape
        resized_hw = self._resized_hw((height, width))
        image_HW3 = resize_photograph(image_HW3, resized_hw, self.resampling)
        canvas_hw = (self.size, self.size)
        sample = _on_canvas(image_HW3, resize_labels(mask_HW, resized_hw), canvas_hw, (0, 0))
        return sample, Placement((height, width), resized_hw, canvas_hw)

    def _resized_hw(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        height, width = _scaled(size_hw, self.size / max(size_hw))
        if self.multiple > min(height, width):
            return height, width
        return height - height % self.multiple, width - width % self.multiple


@dataclass(frozen=True, slots=True, kw_only=True)
class Squash:
    """Both sides to `size`, which changes the aspect ratio (protocol `hsnet`)."""

    size: int
    resampling: Resampling = "pillow"

    def __call__(self, image_HW3: Bytes, mask_HW: Bytes) -> tuple[Sample, Placement]:
        height, width = mask_HW.shape
        square = (self.size, self.size)
        image_HW3 = resize_photograph(image_HW3, square, self.resampling)
        sample = _on_canvas(image_HW3, resize_labels(mask_HW, square), square, (0, 0))
        return sample, Placement((height, width), square, square)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainTransform:
    """Random scale, flip and crop to a square of `size`, padded where the image is smaller."""

    size: int
    scale_range: tuple[float, float] = (0.9, 1.1)
    """The paper names no range: an inference."""
    scale_of: ScaleOf = "original"
    """Whether a scale of 1 leaves the image as it is, or brings its longer side to `size`."""
    flip_probability: float = 0.5
    crop_keeps: float = 0.85
    """Part of the object that a crop keeps: it is drawn again up to 30 times until it does."""
    is_ignored_background: bool = False
    """Whether 255 of a label map becomes background, as in HSNet's training."""
    resampling: Resampling = "opencv"

    def __call__(self, image_HW3: Bytes, mask_HW: Bytes, rng: np.random.Generator) -> Sample:
        """A crop that keeps some foreground wherever the mask has any."""
        if self.is_ignored_background:
            mask_HW = np.where(mask_HW == IGNORE, np.uint8(0), mask_HW)
        height, width = mask_HW.shape
        scale = rng.uniform(*self.scale_range)
        if self.scale_of == "image_size":
            scale *= self.size / max(height, width)
        scaled_hw = _scaled((height, width), scale)
        image_HW3 = resize_photograph(image_HW3, scaled_hw, self.resampling)
        mask_HW = resize_labels(mask_HW, scaled_hw)
        if rng.uniform() < self.flip_probability:
            image_HW3, mask_HW = image_HW3[:, ::-1], mask_HW[:, ::-1]
        rows, columns = _crop(mask_HW, self.size, self.crop_keeps, rng)
        image_HW3, mask_HW = image_HW3[rows, columns], mask_HW[rows, columns]
        canvas_hw = (self.size, self.size)
        room = [side - used for side, used in zip(canvas_hw, mask_HW.shape, strict=True)]
        top, left = (int(rng.integers(0, free + 1)) for free in room)
        return _on_canvas(image_HW3, mask_HW, canvas_hw, (top, left))


def restore_logits(logits_BCHW: torch.Tensor, placement: Placement) -> torch.Tensor:
    """Logits of the canvas's pixels as float32 BCHW logits of the original image.

    The padding is cut off, and what is left resized bilinearly, as the image was: a pixel stands
    for its area.
    """
    height, width = placement.resized_hw
    image = logits_BCHW.float()[..., :height, :width]
    return interpolate(image, placement.original_hw, mode="bilinear", align_corners=False)


def _scaled(size_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (max(round(side * scale), 1) for side in size_hw)
    return height, width


def _crop(mask_HW: Bytes, size: int, least: float, rng: np.random.Generator) -> tuple[slice, slice]:
    """A window of at most `size` by `size` that keeps `least` of the object, or the last drawn.

    One that has nothing of the object is centred on a drawn pixel of it instead.
    """
    is_object_HW = mask_HW == 1
    num_pixels = np.count_nonzero(is_object_HW)
    for _ in range(1 + _MAX_REDRAWS):
        rows, columns = _window(mask_HW, size, rng)
        num_kept = np.count_nonzero(is_object_HW[rows, columns])
        if num_kept >= least * num_pixels:
            return rows, columns
    if num_kept:
        return rows, columns
    foreground = np.argwhere(is_object_HW)
    pixel = foreground[rng.integers(len(foreground))]
    rows, columns = (
        _centred(int(centre), size, side) for centre, side in zip(pixel, mask_HW.shape, strict=True)
    )
    return rows, columns


def _window(mask_HW: Bytes, size: int, rng: np.random.Generator) -> tuple[slice, slice]:
    starts = [int(rng.integers(0, max(side - size, 0) + 1)) for side in mask_HW.shape]
    rows, columns = (slice(start, start + size) for start in starts)
    return rows, columns


def _centred(centre: int, size: int, side: int) -> slice:
    start = min(max(centre - size // 2, 0), max(side - size, 0))
    return slice(start, start + size)


def _on_canvas(
    image_HW3: Bytes, mask_HW: Bytes, canvas_hw: tuple[int, int], corner: tuple[int, int]
) -> Sample:
    (top, left), (height, width) = corner, mask_HW.shape
    canvas_mask_HW = torch.full(canvas_hw, IGNORE, dtype=torch.uint8)
    canvas_mask_HW[top : top + height, left : left + width] = torch.from_numpy(mask_HW.copy())
    return Sample(canvas_of(torch.from_numpy(image_HW3.copy()), canvas_hw, corner), canvas_mask_HW)
