"""Images with the fixations on them: what all storages of MIT1003 offer."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from experiments.saliency.points import Points, Size, normalised
from merge.errors import DataError
from merge.storage.json_files import canonical_json

Rgb = NDArray[np.uint8]
"""H x W x 3."""


@dataclass(frozen=True, slots=True, eq=False)
class Stimulus:
    """One image and where people looked."""

    name: str
    """File name without its ending."""
    size: Size
    points: Points
    """In pixels of the image at its own size; several may be equal."""


class Source(Protocol):
    """The images of a data set by their place in `stimuli`, sorted by name."""

    @property
    def stimuli(self) -> Sequence[Stimulus]: ...

    def image_file(self, index: int) -> bytes:
        """The image as a JPEG file. DataError: it cannot be read."""
        ...

    def map_file(self, index: int) -> bytes:
        """The smoothed map of fixations that comes with the data set, as a JPEG file."""
        ...


def read_rgb(source: Source, index: int) -> Rgb:
    """The image at its own size. DataError: it is damaged, or not of the size that is known."""
    stimulus = source.stimuli[index]
    image = decoded(source.image_file(index), stimulus.name, "RGB")
    if image.size != stimulus.size:
        raise DataError(
            f"{stimulus.name}: the image has {image.size[0]} x {image.size[1]} pixels, its "
            f"fixations were recorded on {stimulus.size[0]} x {stimulus.size[1]}"
        )
    return np.asarray(image)


def decoded(content: bytes, name: str, mode: str) -> Image.Image:
    """A JPEG file in `mode`. DataError: it is damaged."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert(mode)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{name}: the image cannot be decoded ({error})") from error


def read_file(path: Path) -> bytes:
    """The content of a file of the data set. DataError: it is not there."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def fractions(source: Source) -> list[Points]:
    """The fixations of each image as fractions of its width and height."""
    return [normalised(each.points, each.size) for each in source.stimuli]


def fingerprint(source: Source) -> str:
    """16 hex digits of names, sizes and fixations: equal for equal data in any storage."""
    names = [[each.name, *each.size, len(each.points)] for each in source.stimuli]
    sha = hashlib.sha256(canonical_json(names))
    for each in source.stimuli:
        sha.update(each.points.astype("<f8").tobytes())
    return sha.hexdigest()[:16]


def check_fixated(stimuli: Sequence[Stimulus], where: Path) -> None:
    """DataError unless there are images, each with a fixation."""
    if not stimuli:
        raise DataError(f"{where} holds no image")
    empty = [each.name for each in stimuli if not len(each.points)]
    if empty:
        raise DataError(
            f"{where}: {len(empty)} images have no fixation, {empty[0]} among them: no metric "
            "is defined for them. The file of fixations is damaged, or the image must be left out"
        )


def check_readable(source: Source) -> None:
    """DataError unless the first image can be read; the others are read when they are needed."""
    read_rgb(source, 0)
