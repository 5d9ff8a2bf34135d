"""What the tested images score: one row an image, so that ranks add up exactly."""

from __future__ import annotations

import numpy as np

from experiments.runtime.task import Sums, Tally
from experiments.saliency.items import EvalItem
from experiments.saliency.metrics import METRICS, scores
from experiments.saliency.points import Grid


class ImageScores(Tally[Grid, EvalItem]):
    """One row of METRICS an image, float64: 0 for those that other ranks predict."""

    def __init__(self, num_images: int) -> None:
        self._rows = np.zeros((num_images, len(METRICS)))

    def add(self, index: int, prediction: Grid, item: EvalItem) -> None:
        """Score the log density predicted for one image."""
        self._rows[index] = scores(prediction, item.truth)

    def state(self) -> Sums:
        """Images by METRICS."""
        return self._rows

    def metrics(self, state: Sums) -> dict[str, float]:
        """Means over the images: each image counts the same, as in the benchmark."""
        return dict(zip(METRICS, state.mean(axis=0).tolist(), strict=True))
