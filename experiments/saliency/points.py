"""Points on images, and the one convention for them.

A point (x, y) counts pixels to the right and down from the image's upper left corner, so it lies in
the pixel of column floor(x) and row floor(y), and an image of width W ends at x = W. Resizing an
image to another width W' moves x to x * W' / W: pixels are areas, not grid points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""N x 2: x, y."""
Cells = NDArray[np.int64]
"""N: places in the flattened pixels of an image, row by row."""
Grid = NDArray[np.float64]
"""H x W."""

Size = tuple[int, int]
"""Width and height in pixels."""


def normalised(points_N2: Points, size: Size) -> Points:
    """Points as fractions of the image's width and height."""
    return points_N2 / np.array(size, np.float64)


def rescaled(points_N2: Points, size: Size, to: Size) -> Points:
    """Where points of an image of `size` lie once it is resized to `to`."""
    return normalised(points_N2, size) * np.array(to, np.float64)


def cells_of(points_N2: Points, size: Size) -> Cells:
    """The pixel that each point lies in. ValueError: one lies outside of the image."""
    column_row_N2 = np.floor(points_N2).astype(np.int64)
    if len(points_N2) and ((column_row_N2 < 0) | (column_row_N2 >= size)).any():
        raise ValueError(f"a point lies outside of an image of {size[0]} x {size[1]} pixels")
    return column_row_N2[:, 1] * size[0] + column_row_N2[:, 0]


def cells_of_fractions(fractions_N2: Points, size: Size) -> Cells:
    """The pixel of each point that is given as fractions of an image's width and height."""
    points_N2 = fractions_N2 * np.array(size, np.float64)
    # A fraction just below 1 may be rounded up to the image's end.
    return cells_of(np.minimum(points_N2, np.nextafter(np.array(size, np.float64), 0)), size)


def counts_of(cells_N: Cells, size: Size) -> Grid:
    """How many points each pixel holds, H x W."""
    width, height = size
    counts = np.bincount(cells_N, minlength=width * height).astype(np.float64)
    return counts.reshape(height, width)


def inside(points_N2: Points, size: Size) -> NDArray[np.bool_]:
    """Which points lie in the image, its upper and left edge excluded.

    Eye trackers report what they lost at the edge; the reference library leaves it out likewise.
    """
    is_inside_N2 = (points_N2 > 0) & (points_N2 < np.array(size))
    return is_inside_N2[:, 0] & is_inside_N2[:, 1]
