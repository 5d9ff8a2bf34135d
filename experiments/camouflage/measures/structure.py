"""S-measure: how far a map has the structure of the object's mask.

Fan et al., "Structure-measure: a new way to evaluate foreground maps", ICCV 2017; alpha = 0.5.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from experiments.camouflage.measures.maps import EPS, Mask, Reals

_ALPHA = 0.5


def s_measure(map_HW: Reals, truth_HW: Mask) -> float:
    """S-alpha: half of it of the object and the ground as wholes, half of it of four regions."""
    part = float(truth_HW.mean())
    if part == 0:
        return float(1 - map_HW.mean())
    if part == 1:
        return float(map_HW.mean())
    whole = part * _evenness(map_HW[truth_HW]) + (1 - part) * _evenness(1 - map_HW[~truth_HW])
    score = _ALPHA * whole + (1 - _ALPHA) * _by_region(map_HW, truth_HW)
    return min(max(float(score), 0.0), 1.0)


def _evenness(values: Reals) -> float:
    """1 where all of the object (or of the ground) is found with one and the same value 1."""
    mean = values.mean()
    # One pixel has no spread: MATLAB's std is 0 there, numpy's is NaN.
    deviation = values.std(ddof=1) if values.size > 1 else 0.0
    return float(2 * mean / (mean**2 + 1 + deviation + EPS))


def _by_region(map_HW: Reals, truth_HW: Mask) -> float:
    """The similarity of the four parts around the object's centre, each by its area."""
    return sum(
        part.size / truth_HW.size * _similarity(map_HW[rows, columns], part)
        for rows, columns in _quarters(truth_HW)
        if (part := truth_HW[rows, columns]).size  # the centre may lie in the last row or column
    )


def _quarters(truth_HW: Mask) -> Iterator[tuple[slice, slice]]:
    centre = np.argwhere(truth_HW).mean(axis=0).round()
    # Behind the centre's pixel, as MATLAB's indices from 1 have it.
    row, column = (int(place) + 1 for place in centre)
    for rows in (slice(row), slice(row, None)):
        for columns in (slice(column), slice(column, None)):
            yield rows, columns


def _similarity(map_HW: Reals, truth_HW: Mask) -> float:
    """SSIM of a part: means, spreads and how both vary together."""
    truth = truth_HW.astype(np.float64)
    x, y = map_HW.mean(), truth.mean()
    free = truth.size - 1 + EPS
    variances = (((map_HW - x) ** 2).sum() + ((truth - y) ** 2).sum()) / free
    together = ((map_HW - x) * (truth - y)).sum() / free
    above = 4 * x * y * together
    below = (x**2 + y**2) * variances
    if above != 0:
        return float(above / (below + EPS))
    return 1.0 if below == 0 else 0.0
