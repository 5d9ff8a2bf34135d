"""A PNG of test images: image | truth | map, one row an image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from experiments.camouflage.measures.maps import Grey, Mask
from merge.storage.atomic import write_atomic

_CELL_PX = 160
_GAP_PX = 6

Shown = tuple[NDArray[np.uint8], Mask, Grey]
"""An RGB image HW3 of any size, then its truth and the map HW at the image's own size."""


def write_panels(path: Path, rows: Iterable[Shown]) -> None:
    """Replace the PNG at `path` by a row for each image. StorageError where that fails."""
    picture = draw_panels(rows)
    write_atomic(path, lambda file: picture.save(file, format="PNG"))


def draw_panels(rows: Iterable[Shown]) -> Image.Image:
    """The rows below each other, each cell with the proportions of its image."""
    cells = [_cells(*row) for row in rows]
    step = _CELL_PX + _GAP_PX
    picture = Image.new("RGB", (3 * step - _GAP_PX, len(cells) * step - _GAP_PX), (255, 255, 255))
    for place, row in enumerate(cells):
        for column, cell in enumerate(row):
            left, top = ((_CELL_PX - side) // 2 for side in cell.size)
            picture.paste(cell, (column * step + left, place * step + top))
    return picture


def _cells(image_HW3: NDArray[np.uint8], truth_HW: Mask, map_HW: Grey) -> list[Image.Image]:
    scale = _CELL_PX / max(truth_HW.shape)
    height, width = (max(1, round(side * scale)) for side in truth_HW.shape)
    truth = Image.fromarray(truth_HW.astype(np.uint8) * 255)
    pictures = (Image.fromarray(image_HW3), truth, Image.fromarray(map_HW))
    return [picture.resize((width, height)).convert("RGB") for picture in pictures]
