"""Where the cells of a feature map lie in its image, and the two ways between cells and pixels.

Strides and paddings decide on which pixel a cell is centred, so it is computed from the modules of
a network: the cells of a ResNet at output stride 8 lie on pixels 0, 8, 16, ... at every size; those
of an EfficientNet-Lite, whose padding depends on the size, on -3.5, 4.5, ... at 473 and 641, and on
3.5, 11.5, ... at 160. docs/few-shot.md has the input gradients that say so.

Shapes: N maps of C channels, H W pixels, h w cells.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

_SHORTCUT = "downsample"

MakeMatrix = Callable[["CellAxis"], Tensor]


@dataclass(frozen=True, slots=True)
class CellAxis:
    """The cells along one side of an image."""

    first: float
    """Pixel on which cell 0 is centred."""
    step: float
    """Pixels from one centre to the next."""
    count: int
    length: int
    """Pixels of the side."""

    def after(self, kernel: int, stride: int, dilation: int, before: int, after: int) -> CellAxis:
        """The axis after a convolution or pooling with so many zeros `before` and `after` it."""
        reach = (kernel - 1) * dilation
        first = self.first + self.step * (reach / 2 - before)
        count = (self.count + before + after - reach - 1) // stride + 1
        return CellAxis(first, self.step * stride, count, self.length)

    def within(self, finer: CellAxis) -> CellAxis:
        """The same cells, counted in cells of a finer map of the same image."""
        first = (self.first - finer.first) / finer.step
        return CellAxis(first, self.step / finer.step, self.count, finer.count)


@dataclass(frozen=True, slots=True)
class CellGrid:
    """The cells of a feature map of an image."""

    rows: CellAxis
    columns: CellAxis

    @property
    def size_hw(self) -> tuple[int, int]:
        """Cells in height and width."""
        return self.rows.count, self.columns.count

    @property
    def image_hw(self) -> tuple[int, int]:
        """Pixels in height and width."""
        return self.rows.length, self.columns.length

    def within(self, finer: CellGrid) -> CellGrid:
        """The same cells, counted in cells of a finer map of the same image."""
        return CellGrid(self.rows.within(finer.rows), self.columns.within(finer.columns))


def cell_grid(network: Iterable[nn.Module], image_hw: tuple[int, int]) -> CellGrid:
    """The cells that `network`, modules in the order of their use, makes of an image.

    Reads the convolutions and poolings of the main path: those of a block's shortcut have its
    stride too, and are named `downsample`.
    """
    rows, columns = (CellAxis(0.0, 1.0, length, length) for length in image_hw)
    for window in _windows(network):
        rows, columns = (_after(axis, window, dim) for dim, axis in enumerate((rows, columns)))
    return CellGrid(rows, columns)


def cells_to_pixels(cells_NChw: Tensor, grid: CellGrid) -> Tensor:
    """Bilinear from the cells' centres to every pixel, N C H W in float32.

    Pixels outside of the outermost centres take the nearest cell's value.
    """
    # Two matrix products: their gradient is deterministic on a GPU, that of interpolate is not.
    with torch.autocast(cells_NChw.device.type, enabled=False):
        cells = cells_NChw.float()
        down = _on_device(_interpolation, grid.rows, cells)
        across = _on_device(_interpolation, grid.columns, cells)
        return down @ cells @ across.T


def pixels_to_cells(pixels_NCHW: Tensor, grid: CellGrid) -> Tensor:
    """Means of the pixels nearest to each cell's centre, N C h w; floating point.

    A pixel half-way between two centres counts by half for both, and every pixel counts.
    """
    with torch.autocast(pixels_NCHW.device.type, enabled=False):
        down = _on_device(_areas, grid.rows, pixels_NCHW)
        across = _on_device(_areas, grid.columns, pixels_NCHW)
        # Divided at the end: whole and half pixels are sums without rounding.
        area_hw = down.sum(1)[:, None] * across.sum(1)
        means_NChw: Tensor = down @ pixels_NCHW @ across.T / area_hw
        return means_NChw


def _windows(network: Iterable[nn.Module]) -> Iterator[nn.Module]:
    kinds = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    for part in network:
        for name, module in part.named_modules():
            if isinstance(module, kinds) and _SHORTCUT not in name.split("."):
                yield module


def _after(axis: CellAxis, window: nn.Module, dim: int) -> CellAxis:
    kernel, stride, padding = (
        _of_side(getattr(window, name), dim) for name in ("kernel_size", "stride", "padding")
    )
    dilation = _of_side(getattr(window, "dilation", 1), dim)
    if not _pads_by_size(window):
        return axis.after(kernel, stride, dilation, padding, padding)
    missing = (math.ceil(axis.count / stride) - 1) * stride + (kernel - 1) * dilation + 1
    zeros = max(missing - axis.count, 0)
    after = axis.after(kernel, stride, dilation, zeros // 2, zeros - zeros // 2)
    # Such weights were trained at even sizes, where the window begins with the pixels of its cell
    # and ends one later: they are centred on the cell, half a pixel before the window's middle.
    early = axis.step * (stride - 1) / 2
    return replace(after, first=after.first - early)


def _pads_by_size(window: nn.Module) -> bool:
    """Whether it is timm's convolution with TensorFlow's padding `SAME`."""
    return type(window).__name__ == "Conv2dSame"


def _of_side(value: int | tuple[int, ...], dim: int) -> int:
    return value[dim] if isinstance(value, tuple) else value


def _on_device(make: MakeMatrix, axis: CellAxis, like: Tensor) -> Tensor:
    # Under a dispatch mode tensors may be fake, and must not be kept for real ones.
    is_watched = _get_current_dispatch_mode() is not None
    return (_made if is_watched else _kept)(make, axis, like.device, like.dtype)


def _made(make: MakeMatrix, axis: CellAxis, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Made in a test under inference_mode, it could not serve a training's backward pass.
    with torch.inference_mode(False):
        return make(axis).to(device, dtype)


_kept = functools.lru_cache(maxsize=256)(_made)


def _interpolation(axis: CellAxis) -> Tensor:
    """H x h: the weights of the cells in each pixel."""
    places_H = (torch.arange(axis.length, dtype=torch.float64) - axis.first) / axis.step
    places_H = places_H.clamp(0, axis.count - 1)
    return (1 - (places_H[:, None] - torch.arange(axis.count)).abs()).clamp(min=0)


def _areas(axis: CellAxis) -> Tensor:
    """h x H: the part of each pixel that lies in each cell."""
    centres = axis.first + axis.step * torch.arange(axis.count, dtype=torch.float64)
    middles = (centres[1:] + centres[:-1]) / 2
    edges = torch.cat([torch.tensor([-0.5]), middles, torch.tensor([axis.length - 0.5])])
    edges = edges.clamp(-0.5, axis.length - 0.5)
    pixels_H = torch.arange(axis.length, dtype=torch.float64)
    low, high = edges[:-1, None], edges[1:, None]
    inside = torch.minimum(high, pixels_H + 0.5) - torch.maximum(low, pixels_H - 0.5)
    return inside.clamp(min=0)
