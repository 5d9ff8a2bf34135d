"""Saliency metrics of one image, by the definitions of the MIT/Tuebingen Saliency Benchmark.

Conventions (saliency.tuebingen.ai/evaluation.html), the same as the library pysaliency:

* Each fixation counts, also where several lie in one pixel.
* AUC (Judd): positives are the values at fixations, negatives those of all pixels. Every value is a
  threshold, ties count half, and no jitter is added.
* sAUC: the same, with the fixations of all other images as negatives, moved to this image's size.
* NSS: mean over fixations of the map minus its mean, over its standard deviation (of a population).
* CC, KL, SIM compare with the empirical map: the fixations convolved with a Gaussian of one degree
  of visual angle (35 px in MIT1003), the image's edge repeated outwards. KL is that of the
  empirical density from the predicted one, in nats, with 2.2204e-16 added to quotient and
  denominator.
* Information gain: mean over fixations of the log density minus that of the baseline, in bits.

A predicted density is turned into the map that it expects to score best in each metric (Kuemmerer
et al., "Saliency benchmarking made easy", 2018): the density itself for AUC and NSS, its ratio to
the baseline's for sAUC, the blurred density for CC and KL. For SIM that map can only be found by
optimisation; the blurred density stands in for it, which is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from experiments.saliency.points import Cells, Grid, counts_of

METRICS = ("ig", "auc", "sauc", "nss", "cc", "kl", "sim")
"""In the order of the columns of `scores`."""

_EPSILON = 2.2204e-16


@dataclass(frozen=True, slots=True, eq=False)
class Fixated:
    """One image's truth."""

    fixations: Cells
    """Where people looked; at least one."""
    others: Cells
    """Where they looked in all other images, moved to this image's size."""
    log_baseline: Grid
    """Log density of the baseline; what a pixel holds sums to 1."""
    blur_px: float
    """Standard deviation of the Gaussian in pixels: one degree of visual angle."""


def scores(log_density_HW: Grid, truth: Fixated) -> NDArray[np.float64]:
    """All METRICS of a predicted log density (natural logarithm, pixels sum to 1)."""
    density_HW = np.exp(log_density_HW)
    ratio_HW = log_density_HW - truth.log_baseline
    height, width = density_HW.shape
    empirical_HW = blurred(counts_of(truth.fixations, (width, height)), truth.blur_px)
    expected_HW = blurred(density_HW, truth.blur_px)
    found = {
        "ig": information_gain(log_density_HW, truth.log_baseline, truth.fixations),
        "auc": auc(log_density_HW, truth.fixations, log_density_HW.ravel()),
        "sauc": auc(ratio_HW, truth.fixations, ratio_HW.ravel()[truth.others]),
        "nss": nss(density_HW, truth.fixations),
        "cc": cc(expected_HW, empirical_HW),
        "kl": kl(expected_HW, empirical_HW),
        "sim": sim(expected_HW, empirical_HW),
    }
    return np.array([found[name] for name in METRICS])


def information_gain(log_density_HW: Grid, log_baseline_HW: Grid, fixations_N: Cells) -> float:
    """Bits per fixation that the density explains beyond the baseline."""
    gain_N = (log_density_HW - log_baseline_HW).ravel()[fixations_N]
    return float(gain_N.mean() / np.log(2))


def auc(map_HW: Grid, fixations_N: Cells, negatives_M: NDArray[np.float64]) -> float:
    """Area under the ROC curve of values at fixations against negatives; ties count half."""
    ordered_M = np.sort(negatives_M)
    positives_N = map_HW.ravel()[fixations_N]
    below_N = np.searchsorted(ordered_M, positives_N, side="left")
    up_to_N = np.searchsorted(ordered_M, positives_N, side="right")
    return float((below_N + up_to_N).mean() / (2 * len(ordered_M)))


def nss(map_HW: Grid, fixations_N: Cells) -> float:
    """Normalised scanpath saliency; 0 for a constant map."""
    return float(_standardised(map_HW).ravel()[fixations_N].mean())


def cc(map_HW: Grid, empirical_HW: Grid) -> float:
    """Pearson's correlation; 0 where the map is constant."""
    return float((_standardised(map_HW) * _standardised(empirical_HW)).mean())


def kl(map_HW: Grid, empirical_HW: Grid) -> float:
    """Divergence of the empirical density from the predicted one, in nats."""
    predicted, wanted = _as_density(map_HW), _as_density(empirical_HW)
    return float((wanted * np.log(_EPSILON + wanted / (predicted + _EPSILON))).sum())


def sim(map_HW: Grid, empirical_HW: Grid) -> float:
    """Sum of the smaller of both densities in each pixel; maps are divided by their sums."""
    return float(np.minimum(_as_density(map_HW), _as_density(empirical_HW)).sum())


def blurred(map_HW: Grid, sigma_px: float) -> Grid:
    """Convolved with a Gaussian of `sigma_px`, cut off at four of it; edges are repeated."""
    found: Grid = gaussian_filter(map_HW, sigma_px, mode="nearest")
    return found


def _standardised(map_HW: Grid) -> Grid:
    centred_HW: Grid = map_HW - map_HW.mean()
    deviation = float(centred_HW.std())
    return centred_HW / deviation if deviation else centred_HW


def _as_density(map_HW: Grid) -> Grid:
    total = map_HW.sum()
    return map_HW / total if total else np.full_like(map_HW, 1 / map_HW.size)
