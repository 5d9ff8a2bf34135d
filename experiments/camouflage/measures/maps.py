"""What all measures start from: a grey map as a PNG holds it, and the object's mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Reals = NDArray[np.float64]
Mask = NDArray[np.bool_]

EPS = float(np.spacing(1.0))
"""MATLAB's eps, which the definitions add to denominators."""


def stretched(grey_HW: Grey) -> Reals:
    """The map in [0, 1], its least value at 0 and its largest at 1; a constant map stays."""
    map_HW = grey_HW.astype(np.float64) / 255
    least, largest = map_HW.min(), map_HW.max()
    # In this order of operations: the E-measure cuts the map at k / 255, where one bit decides.
    return map_HW if least == largest else (map_HW - least) / (largest - least)


def mean_absolute_error(map_HW: Reals, truth_HW: Mask) -> float:
    """Mean over the pixels of |map - truth|."""
    return float(np.abs(map_HW - truth_HW).mean())


def intersection_over_union(grey_HW: Grey, truth_HW: Mask) -> float:
    """IoU of the pixels of at least 128, one half of 255; 1 where both masks are empty."""
    found_HW = grey_HW >= 128
    union = np.count_nonzero(found_HW | truth_HW)
    return float(np.count_nonzero(found_HW & truth_HW) / union) if union else 1.0
