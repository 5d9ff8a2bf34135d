"""Photographs with label maps: files of VOC, or drawn from COCO's objects. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.datasets.coco_boxes import BoxAnnotations, BoxImage
from experiments.datasets.labels import Bytes, read_label_map, read_photograph
from experiments.dense.voc_labels import NUM_CLASSES, draw_labels
from merge.errors import DataError


class LabelledImages(Protocol):
    """Photographs with their label maps."""

    @property
    def photographs(self) -> Path: ...

    @property
    def files(self) -> Sequence[str]:
        """Names of the photographs in their folder."""
        ...

    def read(self, index: int) -> tuple[Bytes, Bytes]:
        """RGB HW3 and labels HW, uint8."""
        ...


@dataclass(frozen=True, slots=True)
class VocLabels:
    """Label maps as files, named after their photographs."""

    photographs: Path
    masks: Path
    files: tuple[str, ...]

    def mask(self, index: int) -> Path:
        """The file of a label map."""
        return (self.masks / self.files[index]).with_suffix(".png")

    def read(self, index: int) -> tuple[Bytes, Bytes]:
        """RGB HW3 and labels HW. DataError names a file that is missing or does not fit."""
        image_HW3 = read_photograph(self.photographs / self.files[index])
        labels_HW = read_label_map(self.mask(index), NUM_CLASSES - 1)
        if labels_HW.shape != image_HW3.shape[:2]:
            raise DataError(
                f"{self.mask(index)} has another size than its photograph: restore both"
            )
        return image_HW3, labels_HW


@dataclass(frozen=True, slots=True)
class CocoLabels:
    """Label maps of VOC's 20 classes, drawn from COCO's objects where they are read."""

    annotations: BoxAnnotations

    @property
    def photographs(self) -> Path:
        """The folder of the photographs."""
        return self.annotations.photographs

    @property
    def files(self) -> Sequence[str]:
        """Names of the photographs in their folder."""
        return self.annotations.files

    def read(self, index: int) -> tuple[Bytes, Bytes]:
        """RGB HW3 and labels HW. DataError: a photograph is missing or of another size."""
        image = self.annotations.images[index]
        return read_annotated(self.photographs, image), draw_labels(image)


def read_annotated(photographs: Path, image: BoxImage) -> Bytes:
    """A photograph, RGB HW3. DataError where it has not the size that its annotations state."""
    path = photographs / image.file
    image_HW3 = read_photograph(path)
    if image_HW3.shape[:2] != (image.height, image.width):
        height, width, _ = image_HW3.shape
        raise DataError(
            f"{path} has {width}x{height} pixels, annotated are {image.width}x{image.height}: "
            "restore it from the data set"
        )
    return image_HW3
