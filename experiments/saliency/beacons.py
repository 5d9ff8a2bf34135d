"""`beacons`: a small generated data set in MIT1003's layout, where the truth is known.

Each image shows bright beacons and as many dim stones on a textured ground. Two thirds of its
fixations are drawn from Gaussians around the beacons, the others from one around the centre, so a
model that finds beacons must beat the centre bias, and one that marks every object does less well.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.datasets.generated import ensure_generated
from experiments.runtime.seeds import numpy_generator
from experiments.saliency.files import IMAGES, MAPS
from experiments.saliency.metrics import blurred
from experiments.saliency.points import Points, Size, cells_of, counts_of

VERSION = 1
NUM_IMAGES = 101
NUM_FIXATIONS = 60
PIXELS_PER_DEGREE = 4.0

_ROOT_SEED = 20_09
_SIZES: tuple[Size, ...] = ((96, 72), (72, 96))
_RADIUS_PX = 6
_SPREAD_PX = 4.0
_BEACON, _STONE = (250, 170, 60), (70, 80, 110)


def ensure_beacons(folder: Path) -> Path:
    """The data set's root below `folder`, made there first where it is absent (a second)."""
    root = folder / f"beacons-{VERSION}"
    return ensure_generated(root, lambda unfinished: write_beacons(unfinished, NUM_IMAGES))


def write_beacons(root: Path, num_images: int) -> None:
    """The first images of the data set, as folders of MIT1003 below `root`."""
    for folder in (root / IMAGES, root / MAPS):
        folder.mkdir(parents=True)
    for index in range(num_images):
        _write_image(root, index)


def draw(index: int) -> tuple[NDArray[np.uint8], Points]:
    """Image HW3 and fixations of the image `index`; a function of the index alone."""
    rng = numpy_generator(_ROOT_SEED, "beacons", VERSION, index)
    size = _SIZES[index % len(_SIZES)]
    beacons_N2, stones_N2 = np.split(_places(4, size, rng), 2)
    image_HW3 = 120 + 25 * rng.standard_normal((*size[::-1], 3))
    for colour, places_N2 in ((_BEACON, beacons_N2), (_STONE, stones_N2)):
        for place in places_N2:
            image_HW3[_disc(place, size)] = colour
    return np.clip(image_HW3, 0, 255).astype(np.uint8), _fixations(beacons_N2, size, rng)


def _places(number: int, size: Size, rng: np.random.Generator) -> Points:
    """Places away from the border that do not overlap."""
    found: list[NDArray[np.float64]] = []
    while len(found) < number:
        place = rng.uniform(_RADIUS_PX + 2, np.array(size) - _RADIUS_PX - 2)
        if all(np.hypot(*(place - other)) > 3 * _RADIUS_PX for other in found):
            found.append(place)
    return np.array(found)


def _disc(place: NDArray[np.float64], size: Size) -> NDArray[np.bool_]:
    columns, rows = np.meshgrid(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    inside: NDArray[np.bool_] = np.hypot(columns - place[0], rows - place[1]) < _RADIUS_PX
    return inside


def _fixations(beacons_N2: Points, size: Size, rng: np.random.Generator) -> Points:
    num_central = NUM_FIXATIONS // 3
    chosen = rng.integers(len(beacons_N2), size=NUM_FIXATIONS - num_central)
    near = rng.normal(beacons_N2[chosen], _SPREAD_PX)
    central = rng.normal(np.array(size) / 2, np.array(size) / 6, (num_central, 2))
    points: Points = np.clip(np.concatenate([near, central]), 0.5, np.array(size) - 0.5)
    return points


def _write_image(root: Path, index: int) -> None:
    image_HW3, fixations_N2 = draw(index)
    size = (image_HW3.shape[1], image_HW3.shape[0])
    counts_HW = counts_of(cells_of(fixations_N2, size), size)
    smooth_HW = blurred(counts_HW, PIXELS_PER_DEGREE)
    name = f"beacons_{index:04d}"
    content = {
        root / IMAGES / f"{name}.jpeg": image_HW3,
        root / MAPS / f"{name}_fixPts.jpg": 255 * (counts_HW > 0),
        root / MAPS / f"{name}_fixMap.jpg": 255 * smooth_HW / smooth_HW.max(),
    }
    for path, values in content.items():
        Image.fromarray(values.astype(np.uint8)).save(path, "JPEG", quality=100, subsampling=0)
