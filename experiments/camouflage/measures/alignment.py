"""E-measure: how well a binary map is aligned with the object's mask, pixel by pixel.

Fan et al., "Enhanced-alignment measure for binary foreground map evaluation", IJCAI 2018. A map
has a curve over the thresholds 255, 254, ..., 0, of which the field shows mean and maximum, and
one value at its adaptive threshold, twice its mean.

All pixels of one of the four kinds (found or not, object or not) are aligned equally, so the sum
over the pixels is one over the four kinds, by their counts.
"""

from __future__ import annotations

import numpy as np

from experiments.camouflage.measures.maps import EPS, Mask, Reals

NUM_THRESHOLDS = 256


def e_curve(map_HW: Reals, truth_HW: Mask) -> Reals:
    """E-phi at each threshold, from 255 down to 0."""
    levels_HW = (map_HW * 255).astype(np.uint8)
    hits, false_alarms = (
        np.bincount(levels_HW[where], minlength=NUM_THRESHOLDS)[::-1].cumsum()
        for where in (truth_HW, ~truth_HW)
    )
    return _e_measure(hits, false_alarms, truth_HW)


def e_adaptive(map_HW: Reals, truth_HW: Mask) -> float:
    """E-phi at twice the map's mean, at most 1."""
    found_HW = map_HW >= min(2 * map_HW.mean(), 1.0)
    hits, false_alarms = (
        np.array([np.count_nonzero(found_HW & where)]) for where in (truth_HW, ~truth_HW)
    )
    return float(_e_measure(hits, false_alarms, truth_HW)[0])


def _e_measure(
    hits: np.ndarray[tuple[int], np.dtype[np.int64]],
    false_alarms: np.ndarray[tuple[int], np.dtype[np.int64]],
    truth_HW: Mask,
) -> Reals:
    """E-phi of binary maps by how many pixels of the object and of the ground they contain."""
    num_pixels, num_object = truth_HW.size, np.count_nonzero(truth_HW)
    found = hits + false_alarms
    if num_object == 0:
        aligned = (num_pixels - found).astype(np.float64)
    elif num_object == num_pixels:
        aligned = found.astype(np.float64)
    else:
        missed, rest = num_object - hits, num_pixels - num_object - false_alarms
        mean_found, mean_object = found / num_pixels, num_object / num_pixels
        aligned = (
            hits * _alignment(1 - mean_found, 1 - mean_object)
            + false_alarms * _alignment(1 - mean_found, -mean_object)
            + missed * _alignment(-mean_found, 1 - mean_object)
            + rest * _alignment(-mean_found, -mean_object)
        )
    # The definition divides by one pixel less, so that a perfect map scores a little above 1.
    # Of an image of one pixel that would be a division by EPS.
    return np.asarray(aligned / max(num_pixels - 1 + EPS, 1.0))


def _alignment(found: Reals, truth: float) -> Reals:
    """Of two deviations from the means of their masks; 1 where they are equal."""
    alignment = 2 * found * truth / (found**2 + truth**2 + EPS)
    return np.asarray((alignment + 1) ** 2 / 4)
