"""What predictions score, in forms that ranks add up: counts, or one row of boxes an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.coco_boxes import BoxAnnotations
from experiments.datasets.labels import IGNORE, Bytes
from experiments.dense.coco_map import AveragePrecision, Record, as_coco, average_precision
from experiments.runtime.task import Sums, Tally
from merge.errors import DataError

MAX_DETECTIONS = 100
"""Boxes of an image that COCO's AP counts; torchvision's detectors return no more."""


class PixelTally(Tally[Bytes, Any]):
    """One confusion matrix over all pixels of all images: rows are true classes."""

    def __init__(self, num_classes: int) -> None:
        self._counts = np.zeros((num_classes, num_classes), np.int64)

    def add(self, index: int, prediction: Bytes, item: Any) -> None:  # noqa: ANN401
        """Count the pixels of one image; `prediction` is uint8 HW, as `item.labels`."""
        del index
        self._counts += confusion(item.labels, prediction, len(self._counts))

    def state(self) -> Sums:
        """True by predicted class, int64."""
        return self._counts

    def metrics(self, state: Sums) -> dict[str, float]:
        """mIoU over the classes that occur, background included; accuracy of the pixels."""
        if not state.sum():
            raise DataError("the test images have no labelled pixel: check their label maps")
        iou = iou_per_class(state)
        return {
            "miou": float(np.nanmean(iou)),
            "pixel_accuracy": float(np.trace(state) / state.sum()),
        }


def confusion(truth_HW: Bytes, predicted_HW: Bytes, num_classes: int) -> NDArray[np.int64]:
    """True by predicted class over the pixels whose truth is not 255."""
    counted = truth_HW != IGNORE
    pairs = truth_HW[counted].astype(np.int64) * num_classes + predicted_HW[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def iou_per_class(state: Sums) -> NDArray[np.float64]:
    """Intersection over union of each class; NaN of one that is neither there nor predicted."""
    inside = np.diagonal(state).astype(np.float64)
    union = state.sum(0) + state.sum(1) - inside
    iou = np.full(len(state), np.nan)
    np.divide(inside, union, out=iou, where=union > 0)
    return iou


@dataclass(frozen=True, slots=True)
class Detections:
    """The boxes found in one image."""

    boxes: NDArray[np.float64]
    """N4: x, y, width, height in pixels of the photograph."""
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    """Category ids."""


class BoxTally(Tally[Detections, Any]):
    """The best detections of each image, as many rows for each; average precision needs them all.

    AP is no mean over images: the detections of all images are ranked together, so a mean of the
    APs of several ranks is another number.
    """

    def __init__(self, truth: BoxAnnotations, max_detections: int = MAX_DETECTIONS) -> None:
        self._truth = truth
        self._rows = np.zeros((len(truth.images), max_detections, 6), np.float64)

    def add(self, index: int, prediction: Detections, item: Any) -> None:  # noqa: ANN401
        """Keep the highest scores; rows of zeros, whose category is 0, are no detection."""
        del item
        # Stable, so that of equal scores the earlier one is kept, as pycocotools does.
        order = np.argsort(-prediction.scores, kind="stable")[: self._rows.shape[1]]
        columns = (prediction.boxes, prediction.scores[:, None], prediction.labels[:, None])
        self._rows[index, : len(order)] = np.concatenate(columns, axis=1)[order]

    def state(self) -> Sums:
        """Images by detections by (x, y, width, height, score, category), float64."""
        return self._rows

    def metrics(self, state: Sums) -> dict[str, float]:
        """COCO's AP and recall."""
        found = self.average_precision(state)
        return {
            "map": found.map,
            "map_50": found.map_50,
            "map_75": found.map_75,
            "recall_100": found.recall_100,
        }

    def average_precision(self, state: Sums) -> AveragePrecision:
        """The whole summary. DataError where the test images have no object."""
        found = average_precision(as_coco(self._truth), detection_records(state))
        if np.isnan(found.map):
            raise DataError("the test images have no annotated object: check their annotations")
        return found


def detection_records(state: Sums) -> list[Record]:
    """The detections of a state, image by image, as COCO's files have them."""
    images, places = np.nonzero(state[:, :, 5])
    return [
        {
            "image_id": int(image) + 1,
            "category_id": int(row[5]),
            "bbox": row[:4].tolist(),
            "score": float(row[4]),
        }
        for image, row in zip(images, state[images, places], strict=True)
    ]


class ClassTally(Tally[NDArray[np.float32], Any]):
    """For each class its images, and how many of them are right among the first one and five."""

    def __init__(self, num_classes: int) -> None:
        self._counts = np.zeros((num_classes, 3), np.int64)

    def add(self, index: int, prediction: NDArray[np.float32], item: Any) -> None:  # noqa: ANN401
        """Count one image by its scores, one a class."""
        del index
        place = rank_of(prediction, item.label)
        self._counts[item.label] += (1, place < 1, place < 5)

    def state(self) -> Sums:
        """Classes by (images, first, among five), int64."""
        return self._counts

    def metrics(self, state: Sums) -> dict[str, float]:
        """Top-1 and top-5 accuracy over all images."""
        images, first, five = state.sum(0)
        return {"top1": float(first / images), "top5": float(five / images)}


def rank_of(scores: NDArray[np.float32], label: int) -> int:
    """How many classes are before `label`; of equal scores the lower class is before.

    A score that is NaN is never right: no comparison with it holds.
    """
    is_before = ~(scores <= scores[label])
    is_before[:label] |= scores[:label] == scores[label]
    return int(is_before.sum())
