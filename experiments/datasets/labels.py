"""Photographs and label maps: how they are read, and what their values mean.

A photograph is uint8 RGB HW3. A label map is uint8 HW: 0 background, 1..C class ids, 255 ignore.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from merge.errors import DataError

Bytes = NDArray[np.uint8]

_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for damaged files, and for those that claim to have billions of pixels."""

BACKGROUND = 0
IGNORE = 255


def read_photograph(path: Path) -> Bytes:
    """RGB uint8 HW3. DataError names a file that is missing, truncated or no image."""
    return np.array(open_photograph(path))


def open_photograph(path: Path) -> Image.Image:
    """The whole photograph as RGB. DataError names a file that is missing or cannot be read."""
    with _readable(path, "photograph") as image:
        return image.convert("RGB")


def read_label_map(path: Path, num_classes: int) -> Bytes:
    """Label ids uint8 HW of a palette or grey 8-bit PNG; a palette's colours are not looked at.

    DataError names a file that is missing, truncated, in colours, or with ids over `num_classes`.
    """
    with _readable(path, "label map") as image:
        if image.mode not in {"P", "L"}:
            raise DataError(
                f"label map {path} has pixels of mode {image.mode}, not label ids: "
                "save it as an 8-bit palette or grey PNG whose values are the class ids"
            )
        labels_HW = np.array(image)
    _check_ids(labels_HW, num_classes, path)
    return labels_HW


def class_areas(labels_HW: Bytes) -> dict[int, int]:
    """Pixels of each class id in the map, without background and ignore."""
    counts = np.bincount(labels_HW.ravel(), minlength=IGNORE + 1)
    return {int(c): int(counts[c]) for c in np.flatnonzero(counts) if c not in {BACKGROUND, IGNORE}}


@contextmanager
def _readable(path: Path, noun: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise DataError(f"{noun} {path} is missing: restore it from the data set") from error
    except _UNREADABLE as error:
        raise DataError(
            f"{noun} {path} cannot be read ({error}): restore it from the data set"
        ) from error


def _check_ids(labels_HW: Bytes, num_classes: int, path: Path) -> None:
    wrong = sorted(label for label in class_areas(labels_HW) if label > num_classes)
    if wrong:
        listed = ", ".join(str(label) for label in wrong[:5])
        raise DataError(
            f"label map {path} holds the class ids {listed}; this data set has 1..{num_classes}, "
            "0 for background and 255 for ignore: check that the label maps belong to it"
        )
