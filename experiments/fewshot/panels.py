"""PNG panels of episodes: support | query | truth | prediction, one row an episode.

In a support, in the truth and in the prediction the object keeps its colours inside an outline
and the rest is dimmed; pixels that do not count (255) are hatched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from experiments.datasets.labels import IGNORE, Bytes
from merge.storage.atomic import write_atomic

_CELL_PX = 224
_GAP_PX = 8
_HEADER_PX = 26
_CAPTION_PX = 24
_PAPER = (255, 255, 255)
_INK = (32, 33, 36)
_SUPPORT_RGB = (26, 115, 232)
_TRUTH_RGB = (24, 150, 60)
_PREDICTION_RGB = (230, 80, 0)
_COLUMN_NAMES = ("support", "query", "truth", "prediction")


@dataclass(frozen=True, slots=True)
class PanelRow:
    """One episode to show: uint8 RGB HW3 images with uint8 HW masks (0/1/255) of equal size."""

    supports: tuple[tuple[Bytes, Bytes], ...]
    query: Bytes
    truth: Bytes
    prediction: NDArray[np.bool_]
    class_name: str
    iou: float | None
    """Foreground IoU of this episode, a fraction; None where its union is empty."""


def write_panels(path: Path, rows: Sequence[PanelRow]) -> None:
    """Replace the PNG at `path` by the panels of `rows`. StorageError where that fails."""
    if not rows:
        raise ValueError("there is no episode to show")
    picture = draw_panels(rows)
    write_atomic(path, lambda file: picture.save(file, format="PNG"))


def draw_panels(rows: Sequence[PanelRow]) -> Image.Image:
    """The panels as one RGB picture with a header and a caption under each row."""
    step = _CELL_PX + _GAP_PX
    row_height = _CELL_PX + _CAPTION_PX + _GAP_PX
    size = (len(_COLUMN_NAMES) * step + _GAP_PX, _HEADER_PX + len(rows) * row_height)
    picture = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(picture)
    for column, name in enumerate(_COLUMN_NAMES):
        _text(draw, _GAP_PX + column * step, _HEADER_PX / 2, name, size_px=16)
    for index, row in enumerate(rows):
        top = _HEADER_PX + index * row_height
        for column, cell in enumerate(_cells(row)):
            picture.paste(cell, (_GAP_PX + column * step, top))
        middle = top + _CELL_PX + _CAPTION_PX / 2
        _text(draw, _GAP_PX, middle, _fitting(row.class_name, step - _GAP_PX), size_px=15)
        _text(draw, _GAP_PX + 3 * step, middle, _iou_text(row.iou), size_px=15)
    return picture


def _cells(row: PanelRow) -> tuple[Image.Image, ...]:
    prediction_HW = row.prediction.astype(np.uint8)
    return (
        _mosaic([_marked(image, mask, _SUPPORT_RGB) for image, mask in row.supports]),
        _fitted(Image.fromarray(row.query), _CELL_PX),
        _fitted(_marked(row.query, row.truth, _TRUTH_RGB), _CELL_PX),
        _fitted(_marked(row.query, prediction_HW, _PREDICTION_RGB), _CELL_PX),
    )


def _mosaic(images: Sequence[Image.Image]) -> Image.Image:
    """All shots in one cell, on the smallest square grid that holds them."""
    per_side = int(np.ceil(np.sqrt(len(images))))
    tile_px = _CELL_PX // per_side
    cell = Image.new("RGB", (_CELL_PX, _CELL_PX), _PAPER)
    for index, image in enumerate(images):
        corner = (index % per_side * tile_px, index // per_side * tile_px)
        cell.paste(_fitted(image, tile_px), corner)
    return cell


def _fitted(image: Image.Image, side_px: int) -> Image.Image:
    """The image in the middle of a white square, as large as it fits."""
    scale = side_px / max(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    square = Image.new("RGB", (side_px, side_px), _PAPER)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    square.paste(resized, ((side_px - width) // 2, (side_px - height) // 2))
    return square


def _marked(image_HW3: Bytes, mask_HW: Bytes, colour: tuple[int, int, int]) -> Image.Image:
    """The image with its object outlined, everything else dimmed towards grey."""
    # Drawn at the size it is shown, so that outlines have one width on small and large images.
    scale = _CELL_PX / max(mask_HW.shape)
    size_wh = (max(round(mask_HW.shape[1] * scale), 1), max(round(mask_HW.shape[0] * scale), 1))
    image = Image.fromarray(image_HW3).resize(size_wh, Image.Resampling.BICUBIC)
    mask = Image.fromarray(mask_HW).resize(size_wh, Image.Resampling.NEAREST)
    labels_HW = np.asarray(mask)
    grey = image.convert("L").point(lambda value: 50 + value * 2 // 5).convert("RGB")
    inside = Image.fromarray(np.where(labels_HW == 1, 255, 0).astype(np.uint8))
    shown = Image.composite(image, grey, inside)
    shown.paste((150, 150, 150), mask=_hatching(labels_HW))
    shown.paste(_PAPER, mask=_outline(inside, 7))
    shown.paste(colour, mask=_outline(inside, 5))
    return shown


def _outline(inside: Image.Image, width_px: int) -> Image.Image:
    grown = inside.filter(ImageFilter.MaxFilter(width_px))
    shrunk = inside.filter(ImageFilter.MinFilter(3))
    return Image.fromarray(np.asarray(grown) & ~np.asarray(shrunk))


def _hatching(labels_HW: Bytes) -> Image.Image:
    rows, columns = np.indices(labels_HW.shape)
    lines_HW = (labels_HW == IGNORE) & ((rows + columns) % 6 < 2)
    return Image.fromarray(np.where(lines_HW, 255, 0).astype(np.uint8))


def _iou_text(iou: float | None) -> str:
    return "IoU: no object" if iou is None else f"IoU {100 * iou:.1f}%"


def _fitting(text: str, width_px: int) -> str:
    font = ImageFont.load_default(15)
    while font.getlength(text) > width_px:
        text = text[:-2].rstrip() + "…"
    return text


def _text(
    draw: ImageDraw.ImageDraw, left: float, middle: float, text: str, *, size_px: int
) -> None:
    draw.text((left, middle), text, fill=_INK, font=ImageFont.load_default(size_px), anchor="lm")
