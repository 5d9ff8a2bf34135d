"""A small generated data set in the layout of COD10K-v3: textures on textures, made on first use.

Object and ground of an image have one colour, one contrast and stripes of one width; only the
direction of the stripes differs. No mean colour tells them apart, and a small network learns to.

    tiny-cod10k-<version>/{Train,Test}/Image/COD10K-CAM-0-Generated-0-Blob-<n>.jpg
    tiny-cod10k-<version>/{Train,Test}/GT_Object/<same name>.png
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.datasets.generated import ensure_generated
from experiments.runtime.seeds import numpy_generator

VERSION = 1
"""Raised with every change of what is drawn."""

COUNTS = {"train": 48, "test": 19}
"""Images with an object; there are a few more without one."""

_WITHOUT_OBJECT = 3
_SIDES_PX = (56, 88)
_Picture = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def ensure_tiny_cod10k(folder: Path) -> Path:
    """The data set's root below `folder`, made there first where it is absent (a second).

    StorageError where the file system refuses.
    """
    return ensure_generated(folder / f"tiny-cod10k-{VERSION}", _write)


def draw(name: str, *, has_object: bool) -> _Picture:
    """RGB image HW3 and mask HW of 0 and 255; a function of the name alone."""
    rng = numpy_generator(10, "tiny-cod10k", VERSION, name)
    height, width = (int(side) for side in rng.integers(*_SIDES_PX, size=2))
    object_HW = _blob(height, width, rng) if has_object else np.zeros((height, width), np.bool_)
    across, along = (_stripes(height, width, angle, rng) for angle in (0.0, np.pi / 2))
    texture_HW = np.where(object_HW, along, across) + 0.25 * rng.standard_normal((height, width))
    colour = rng.uniform(90, 165, size=3)
    image = colour + 40 * texture_HW[..., None]
    return image.clip(0, 255).astype(np.uint8), object_HW.astype(np.uint8) * 255


def _blob(height: int, width: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A smooth closed shape, which may lie off the middle."""
    rows, columns = np.mgrid[:height, :width]
    row, column = rng.uniform(0.25, 0.75, size=2) * (height, width)
    angles = np.arctan2(rows - row, columns - column)
    waves = [rng.uniform(-0.15, 0.15) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in (2, 3)]
    radius = rng.uniform(0.18, 0.3) * min(height, width) * (1 + sum(waves))
    return np.asarray(np.hypot(rows - row, columns - column) < radius)


def _stripes(
    height: int, width: int, angle: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    rows, columns = np.mgrid[:height, :width]
    turned = angle + rng.uniform(-0.25, 0.25)
    place = rows * np.sin(turned) + columns * np.cos(turned)
    return np.asarray(np.sin(2 * np.pi * place / 6 + rng.uniform(0, 6.3)))


def _write(root: Path) -> None:
    for split, num_images in COUNTS.items():
        _write_split(root / split.capitalize(), split, num_images)


def _write_split(folder: Path, split: str, num_images: int) -> None:
    images, masks = folder / "Image", folder / "GT_Object"
    for each in (images, masks):
        each.mkdir(parents=True)
    kinds = ["CAM"] * num_images + ["NonCAM"] * _WITHOUT_OBJECT
    for number, kind in enumerate(kinds, start=1):
        name = f"COD10K-{kind}-0-Generated-0-Blob-{split}{number}"
        image_HW3, mask_HW = draw(name, has_object=kind == "CAM")
        Image.fromarray(image_HW3).save(images / f"{name}.jpg", quality=95, subsampling=0)
        Image.fromarray(mask_HW).save(masks / f"{name}.png")
