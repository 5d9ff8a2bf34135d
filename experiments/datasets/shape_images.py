"""The embedded data set shapes5: five classes of textured shapes in folders, made on first use.

In the layout of ImageNet, small enough for a test. Classes are not equally frequent, so that a
model that always predicts the most frequent one is a baseline to beat: 30 of 101 test images.

    shapes5-<version>/{train,val}/<class>/<number>.JPEG       RGB, 48 to 72 pixels a side
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from experiments.datasets.generated import ensure_generated
from experiments.datasets.scenes import Look, draw_scene
from experiments.runtime.seeds import numpy_generator

VERSION = 1
"""Raised with every change of what is drawn, so that two generators never share a folder."""

_ROOT_SEED = 17
_SIDE_RANGE_PX = (48, 73)
_AREA_RANGE_PX = (350.0, 650.0)

CLASSES = {
    "azure_ring": Look(shape="ring", texture="plain", hue=0.6),
    "green_star": Look(shape="star", texture="checked", hue=0.35),
    "pink_cross": Look(shape="cross", texture="plain", hue=0.9),
    "red_disc": Look(shape="disc", texture="striped", hue=0.0),
    "yellow_square": Look(shape="square", texture="dotted", hue=0.15),
}
NUM_IMAGES = {"train": (60, 48, 36, 32, 24), "val": (30, 24, 18, 17, 12)}
"""Of each class in order; 200 and 101, which no usual number of ranks divides."""


def ensure_shapes5(folder: Path) -> Path:
    """The data root below `folder`, made there first where it is absent (a second).

    StorageError where the file system refuses.
    """
    return ensure_generated(folder / f"shapes5-{VERSION}", _write)


def _write(root: Path) -> None:
    for split, counts in NUM_IMAGES.items():
        for name, count in zip(CLASSES, counts, strict=True):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                draw(split, name, number).save(
                    folder / f"{number:04d}.JPEG", format="JPEG", quality=92
                )


def draw(split: str, name: str, number: int) -> Image.Image:
    """Image `number` of a class: a function of its arguments alone."""
    rng = numpy_generator(_ROOT_SEED, "shapes5", VERSION, split, name, number)
    image_HW3, _ = draw_scene(
        {1: CLASSES[name]}, rng, side_range_px=_SIDE_RANGE_PX, area_range_px=_AREA_RANGE_PX
    )
    return Image.fromarray(image_HW3)
