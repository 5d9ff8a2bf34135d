"""What test images score: one row of measures an image, by rank, added up over ranks."""

from __future__ import annotations

import numpy as np

from experiments.camouflage.data.loading import EvalItem
from experiments.camouflage.measures.maps import Grey
from experiments.camouflage.measures.scores import NUM_COLUMNS, image_scores, mean_scores
from experiments.runtime.task import Sums, Tally


class ImageTally(Tally[Grey, EvalItem]):
    """Rows of `scores.image_scores`: 0 for images that other ranks predict."""

    def __init__(self, num_images: int) -> None:
        self._rows = np.zeros((num_images, NUM_COLUMNS))

    def add(self, index: int, prediction: Grey, item: EvalItem) -> None:
        """Score one image at its own size."""
        self._rows[index] = image_scores(prediction, item.truth)

    def state(self) -> Sums:
        """Images by columns, float64."""
        return self._rows

    def metrics(self, state: Sums) -> dict[str, float]:
        """IoU, S-alpha, weighted F, MAE and E-phi as fractions, over the images."""
        return mean_scores(np.asarray(state, np.float64))
