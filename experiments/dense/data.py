"""Items as tensors: what loaders yield for training and for evaluation.

The random numbers of a training item follow from (seed, epoch, index) alone, so they depend on no
rank and no loader process. Images stay uint8 until they are on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.datasets.coco_boxes import BoxAnnotations, BoxImage
from experiments.datasets.image_folder import ImageFolder
from experiments.datasets.labels import Bytes, read_photograph
from experiments.dense.label_maps import LabelledImages, read_annotated
from experiments.dense.options import Options
from experiments.dense.transforms import (
    centre_crop,
    random_crop,
    random_view,
    resized,
    resized_labels,
    with_short_side,
)
from experiments.runtime.seeds import numpy_generator


class BoxBatch(NamedTuple):
    """Images with boxes; each image has its own size and number of boxes."""

    images: list[Tensor]
    """3HW, uint8"""
    boxes: list[Tensor]
    """N4: x and y of two corners, in pixels"""
    labels: list[Tensor]
    """N, int64"""


@dataclass(frozen=True, slots=True)
class PixelItem:
    """A test image, resized, with its label map of that size."""

    image: Tensor
    """3HW, uint8"""
    labels: Bytes
    """HW"""


@dataclass(frozen=True, slots=True)
class BoxItem:
    """A test image at its own size."""

    image: Tensor


@dataclass(frozen=True, slots=True)
class ClassItem:
    """A test image, its centre, with its class."""

    image: Tensor
    label: int


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The random stream of an epoch."""

    seed: int
    epoch: int

    def of(self, index: int) -> np.random.Generator:
        """That of one item."""
        return numpy_generator(self.seed, "augment", self.epoch, index)


@dataclass(frozen=True, slots=True)
class PixelTraining:
    """The training images for segmentation: a crop of each at a random scale."""

    images: LabelledImages
    places: Sequence[int]
    options: Options
    augmentation: Augmentation
    size: int

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        settings, side = self.options.images, self.options.short_side
        view = random_view(
            *self.images.read(self.places[index]),
            self.augmentation.of(index),
            sides=(int(settings.scale_min * side), int(settings.scale_max * side)),
            crop=self.size,
            flip_probability=settings.flip_probability,
        )
        return chw(view[0]), torch.from_numpy(view[1])


@dataclass(frozen=True, slots=True)
class PixelTest:
    """The test images for segmentation, both image and label map resized."""

    images: LabelledImages
    places: Sequence[int]
    short_side: int

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> PixelItem:
        image_HW3, labels_HW = self.images.read(self.places[index])
        size_hw = with_short_side(labels_HW.shape, self.short_side)
        return PixelItem(chw(resized(image_HW3, size_hw)), resized_labels(labels_HW, size_hw))


@dataclass(frozen=True, slots=True)
class BoxTraining:
    """The training images for detection, perhaps flipped; the model resizes them."""

    annotations: BoxAnnotations
    places: Sequence[int]
    flip_probability: float
    augmentation: Augmentation

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        image = self.annotations.images[self.places[index]]
        image_HW3 = read_annotated(self.annotations.photographs, image)
        boxes, labels = trained_boxes(image)
        if self.augmentation.of(index).random() < self.flip_probability:
            image_HW3 = image_HW3[:, ::-1]
            boxes[:, [0, 2]] = image.width - boxes[:, [2, 0]]
        return chw(image_HW3), torch.from_numpy(boxes), torch.from_numpy(labels)


@dataclass(frozen=True, slots=True)
class BoxTest:
    """The test images for detection."""

    annotations: BoxAnnotations

    def __len__(self) -> int:
        return len(self.annotations.images)

    def __getitem__(self, index: int) -> BoxItem:
        image = self.annotations.images[index]
        return BoxItem(chw(read_annotated(self.annotations.photographs, image)))


@dataclass(frozen=True, slots=True)
class ClassTraining:
    """The training images for classification: a random crop of each."""

    images: ImageFolder
    places: Sequence[int]
    options: Options
    augmentation: Augmentation
    size: int

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        place, settings = self.places[index], self.options.images
        crop_HW3 = random_crop(
            read_photograph(self.images.path(place)),
            self.augmentation.of(index),
            size=self.size,
            area_min=settings.area_min,
            flip=settings.flip_probability,
        )
        return chw(crop_HW3), int(self.images.labels[place])


@dataclass(frozen=True, slots=True)
class ClassTest:
    """The test images for classification: the centre of each."""

    images: ImageFolder
    places: Sequence[int]
    short_side: int
    size: int

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> ClassItem:
        place = self.places[index]
        image_HW3 = read_photograph(self.images.path(place))
        crop_HW3 = centre_crop(image_HW3, short_side=self.short_side, size=self.size)
        return ClassItem(chw(crop_HW3), int(self.images.labels[place]))


def trained_boxes(image: BoxImage) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Corners N4 and categories N of the objects to learn: no crowds, nothing below a pixel.

    Corners are cut at the edges of the image.
    """
    kept = [found for found in image.objects if not found.is_crowd]
    boxes = np.array([found.box for found in kept], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes = boxes.clip(0, np.array([image.width, image.height] * 2, np.float32))
    is_large = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
    labels = np.array([found.category_id for found in kept], np.int64)
    return boxes[is_large], labels[is_large]


def collate_boxes(items: Sequence[tuple[Tensor, Tensor, Tensor]]) -> BoxBatch:
    """Lists, as images differ in size and in their number of boxes."""
    images, boxes, labels = (list(parts) for parts in zip(*items, strict=True))
    return BoxBatch(images, boxes, labels)


def split_boxes(batch: BoxBatch, size: int) -> list[BoxBatch]:
    """Parts of `size` images, the last one shorter."""
    starts = range(0, len(batch.images), size)
    return [BoxBatch(*(part[at : at + size] for part in batch)) for at in starts]


def chw(image_HW3: Bytes) -> Tensor:
    """An image as a tensor 3HW, uint8."""
    return torch.from_numpy(np.ascontiguousarray(image_HW3.transpose(2, 0, 1)))
