"""All measures of one image as a row of numbers, and the metrics of many rows."""

from __future__ import annotations

import numpy as np

from experiments.camouflage.measures.alignment import NUM_THRESHOLDS, e_adaptive, e_curve
from experiments.camouflage.measures.maps import (
    Grey,
    Mask,
    Reals,
    intersection_over_union,
    mean_absolute_error,
    stretched,
)
from experiments.camouflage.measures.structure import s_measure
from experiments.camouflage.measures.weighted_f import weighted_f

SINGLE = ("iou", "s_alpha", "weighted_f", "mae", "e_adaptive")
"""The columns that hold one measure each; E-phi's curve follows."""
NUM_COLUMNS = len(SINGLE) + NUM_THRESHOLDS


def image_scores(grey_HW: Grey, truth_HW: Mask) -> Reals:
    """The row of one image. ValueError where map and mask differ in size."""
    if grey_HW.shape != truth_HW.shape:
        raise ValueError(f"a map of {grey_HW.shape} is scored against a mask of {truth_HW.shape}")
    map_HW = stretched(grey_HW)
    single = (
        intersection_over_union(grey_HW, truth_HW),
        s_measure(map_HW, truth_HW),
        weighted_f(map_HW, truth_HW),
        mean_absolute_error(map_HW, truth_HW),
        e_adaptive(map_HW, truth_HW),
    )
    return np.concatenate([single, e_curve(map_HW, truth_HW)])


def mean_scores(rows: Reals) -> dict[str, float]:
    """The metrics over images: means; the maximum of E-phi is that of the mean curve."""
    means = rows.mean(axis=0)
    curve = means[len(SINGLE) :]
    scores = {name: float(value) for name, value in zip(SINGLE, means, strict=False)}
    return {**scores, "e_mean": float(curve.mean()), "e_max": float(curve.max())}
