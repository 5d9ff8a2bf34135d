"""What a test counts: each image once, on any number of ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.runtime.task import Sums, Tally

_COLUMNS = ("num_seen", "predicted", "in_top5", "loss")


@dataclass(frozen=True, slots=True)
class Scored:
    """What a model says of one image."""

    predicted: int
    """The class with the highest logit."""
    in_top5: bool
    """Whether the true class is among the five highest logits."""
    loss: float
    """Cross entropy in nats."""


class ImageTally(Tally[Scored, Any]):
    """One row an image, 0 for those that other ranks predict, so that sums over ranks are exact."""

    def __init__(self, labels: NDArray[np.int64], num_classes: int) -> None:
        self._labels, self._num_classes = labels, num_classes
        self._rows = np.zeros((len(labels), len(_COLUMNS)), np.float64)

    def add(self, index: int, prediction: Scored, item: Any) -> None:  # noqa: ANN401
        """Take image `index`; twice is an error that `metrics` finds."""
        del item
        self._rows[index] += (1, prediction.predicted, prediction.in_top5, prediction.loss)

    def state(self) -> Sums:
        """Images by columns, float64."""
        return self._rows

    def metrics(self, state: Sums) -> dict[str, float]:
        """Top-1, top-5 and macro F1 as fractions, the loss in nats, over every image.

        ValueError: an image was left out or counted twice.
        """
        seen, predicted, in_top5, loss = state.T
        if not (seen == 1).all():
            raise ValueError(
                f"{int((seen == 0).sum())} of {len(seen)} images were not scored, and "
                f"{int((seen > 1).sum())} more than once: a number over them would be no result"
            )
        classes = predicted.astype(np.int64)
        return {
            "top1": float((classes == self._labels).mean()),
            "top5": float(in_top5.mean()),
            "f1": macro_f1(confusion(self._labels, classes, self._num_classes)),
            "test_loss": float(loss.mean()),
        }


def confusion(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int
) -> NDArray[np.int64]:
    """Counts by true class (rows) and predicted class (columns)."""
    pairs = labels * num_classes + predicted
    counts = np.bincount(pairs, minlength=num_classes**2).astype(np.int64)
    return counts.reshape(num_classes, num_classes)


def macro_f1(counts: NDArray[np.int64]) -> float:
    """The mean of the classes' F1, 2 TP / (2 TP + FP + FN); 0 for a class never met."""
    hits = np.diagonal(counts)
    total = counts.sum(0) + counts.sum(1)
    return float((2 * hits / np.maximum(total, 1)).mean())
