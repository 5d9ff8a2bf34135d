"""Images on a canvas: bytes until they are on the device, then floats with a fill colour.

Bytes are a quarter of what floats take to the GPU. The colour of what is padded may be no whole
number (the mean that a backbone subtracts), so it is painted where the floats are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

Rgb = tuple[float, float, float]
BLACK_RGB: Rgb = (0.0, 0.0, 0.0)


class Canvases(NamedTuple):
    """Images, each in a box of a canvas; any leading dimensions."""

    pixels: Tensor
    """uint8 ... 3HW, RGB; 0 outside of the box."""
    box: Tensor
    """int32 ... 4: top, left, height and width in pixels of what is no padding."""

    def painted(self, fill_rgb: Rgb) -> Tensor:
        """float32 ... 3HW in [0, 255] with `fill_rgb` outside of the boxes."""
        height, width = self.pixels.shape[-2:]
        top, left, tall, wide = (side[..., None] for side in self.box.unbind(-1))
        rows = torch.arange(height, device=self.box.device)
        columns = torch.arange(width, device=self.box.device)
        in_rows = (rows >= top) & (rows < top + tall)
        in_columns = (columns >= left) & (columns < left + wide)
        is_image = in_rows[..., None, :, None] & in_columns[..., None, None, :]
        return torch.where(is_image, self.pixels.float(), _colour(fill_rgb, self.pixels.device))


@lru_cache(maxsize=16)
def _colour(rgb: Rgb, device: torch.device) -> Tensor:
    # Once a device: a copy from the host waits for the GPU.
    return torch.tensor(rgb, device=device).view(3, 1, 1)


def canvas_of(image_HW3: Tensor, canvas_hw: tuple[int, int], corner: tuple[int, int]) -> Canvases:
    """An image, uint8 HW3, with its top left corner at `corner` (row, column) of a canvas."""
    (top, left), (height, width) = corner, image_HW3.shape[:2]
    pixels_3HW = torch.zeros((3, *canvas_hw), dtype=torch.uint8)
    pixels_3HW[:, top : top + height, left : left + width] = image_HW3.permute(2, 0, 1)
    return Canvases(pixels_3HW, torch.tensor([top, left, height, width], dtype=torch.int32))


def stack(canvases: list[Canvases]) -> Canvases:
    """Canvases of one size along a new first dimension."""
    pixels, boxes = zip(*canvases, strict=True)
    return Canvases(torch.stack(pixels), torch.stack(boxes))


def whole(images: Tensor) -> Canvases:
    """Images ... 3HW, in [0, 255], that fill their canvases."""
    height, width = images.shape[-2:]
    box = torch.tensor([0, 0, height, width], dtype=torch.int32, device=images.device)
    return Canvases(images.to(torch.uint8), box.expand(*images.shape[:-3], 4))
