"""Centre bias: where people look whatever the image shows, as a density without the image itself.

A Gaussian kernel density estimate over the fixations of other images, in fractions of width and
height, mixed with a little of the uniform density. Kernel and edges are those of pysaliency's
`CrossvalidatedBaselineModel`: a Gaussian filter on the image's own pixels, edges reflected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from experiments.saliency.points import (
    Cells,
    Grid,
    Points,
    Size,
    cells_of_fractions,
    counts_of,
)


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The fixations of many images, in fractions of width and height."""

    fractions: Points
    owners: NDArray[np.int64]
    """The image that each belongs to."""

    @classmethod
    def of(cls, fractions: Sequence[Points], images: Sequence[int]) -> Self:
        """The fixations of `images`; `fractions` has those of all images."""
        chosen = [fractions[image] for image in images]
        owners = np.repeat(np.array(images, np.int64), [len(each) for each in chosen])
        return cls(np.concatenate([np.empty((0, 2)), *chosen]), owners)

    def cells_without(self, image: int, size: Size) -> Cells:
        """Pixels of an image of `size` where people looked in all images but `image`."""
        return cells_of_fractions(self.fractions[self.owners != image], size)


@dataclass(frozen=True, slots=True, eq=False)
class CentreBias:
    """A density for each image that its own fixations do not enter."""

    pool: Pool
    bandwidth: float
    """Standard deviation of the kernel, as a fraction of width and height."""
    uniform: float
    """Share of the uniform density."""

    def log_density(self, image: int, size: Size) -> Grid:
        """Log density (natural logarithm) over the pixels of `image` at `size`, H x W.

        ValueError: no other image has a fixation.
        """
        cells = self.pool.cells_without(image, size)
        if not len(cells):
            raise ValueError("a centre bias needs fixations of other images")
        width, height = size
        sigma = (self.bandwidth * height, self.bandwidth * width)
        kernel_HW: Grid = gaussian_filter(counts_of(cells, size), sigma)
        share_HW = kernel_HW / kernel_HW.sum()
        mixed_HW = (1 - self.uniform) * share_HW + self.uniform / (width * height)
        log_HW: Grid = np.log(mixed_HW)
        return log_HW
