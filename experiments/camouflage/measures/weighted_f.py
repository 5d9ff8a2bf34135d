"""Weighted F-measure: errors weigh by where they lie.

Margolin, Zelnik-Manor, Tal, "How to evaluate foreground maps?", CVPR 2014; beta = 1. An error
inside the object weighs less where its neighbours are found, one outside weighs more the farther
it lies from the object.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d, distance_transform_edt

from experiments.camouflage.measures.maps import EPS, Mask, Reals

_SIGMA_PX = 5.0
_REACH_PX = 3
"""The Gaussian is cut to 7x7 pixels."""
_HALVED_AFTER_PX = 5.0
"""Distance over which the weight of an error goes half of the way from 1 to 2."""


def weighted_f(map_HW: Reals, truth_HW: Mask) -> float:
    """F-beta-w; 0 where the mask is empty, as precision and recall of nothing are."""
    num_object = np.count_nonzero(truth_HW)
    if num_object == 0:
        return 0.0
    errors_HW = _weighted_errors(map_HW, truth_HW)
    hits = num_object - errors_HW[truth_HW].sum()
    false_alarms = errors_HW[~truth_HW].sum()
    recall = 1 - errors_HW[truth_HW].mean()
    precision = hits / (EPS + hits + false_alarms)
    return float(2 * recall * precision / (EPS + recall + precision))


def _weighted_errors(map_HW: Reals, truth_HW: Mask) -> Reals:
    errors_HW = np.abs(map_HW - truth_HW)
    distances_HW, (rows_HW, columns_HW) = distance_transform_edt(~truth_HW, return_indices=True)
    # Outside the object the error of its nearest pixel, so that smoothing does not lower its rim.
    smoothed_HW = _smoothed(errors_HW[rows_HW, columns_HW])
    least_HW = np.where(truth_HW, np.minimum(errors_HW, smoothed_HW), errors_HW)
    weights_HW = np.where(truth_HW, 1.0, 2 - 0.5 ** (distances_HW / _HALVED_AFTER_PX))
    return np.asarray(least_HW * weights_HW)


def _smoothed(values_HW: Reals) -> Reals:
    """Convolved with the Gaussian, one axis after the other; zero beyond the image's edge."""
    places = np.arange(-_REACH_PX, _REACH_PX + 1)
    kernel = np.exp(-(places**2) / (2 * _SIGMA_PX**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        values_HW = correlate1d(values_HW, kernel, axis=axis, mode="constant")
    return values_HW
