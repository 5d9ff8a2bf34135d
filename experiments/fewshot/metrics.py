"""mIoU and FB-IoU of few-shot segmentation, from summed integer counts.

For each novel class, intersection and union are summed over all its test episodes and divided
once: IoU_c = I_c / U_c. mIoU is the mean of IoU_c over the fold's classes, FB-IoU the mean of the
foreground's and the background's IoU, each summed over all episodes of all classes. This is not
the mean of per-episode IoU. Pixels of 255 in the target are dropped. Values are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.labels import IGNORE
from merge.errors import RecordError
from merge.storage.json_files import Json

COLUMNS = (
    "foreground_intersection",
    "foreground_union",
    "background_intersection",
    "background_union",
    "episodes",
)


Counts = NDArray[np.int64]
"""T rows of `COLUMNS` of an episode: one for each prediction of a method that iterates."""


@dataclass(frozen=True, slots=True)
class IoUCounts:
    """Sums over test episodes: one row a class of the fold, one column a name in `COLUMNS`.

    Counts of different episodes add up (`+`), so ranks may count any shares of the list.
    """

    class_ids: tuple[int, ...]
    counts: NDArray[np.int64]
    """Classes by columns."""

    @classmethod
    def empty(cls, class_ids: Sequence[int]) -> IoUCounts:
        """Counts of no episode."""
        return cls(tuple(class_ids), np.zeros((len(class_ids), len(COLUMNS)), np.int64))

    def update(
        self, prediction_HW: NDArray[np.bool_], target_HW: NDArray[np.uint8], class_id: int
    ) -> float | None:
        """Count one episode in place; its own foreground IoU, None where its union is empty.

        The target is 0 background, 1 foreground, 255 dropped. ValueError for other values,
        unequal shapes or a class that is not of this fold.
        """
        row = episode_counts(prediction_HW, target_HW)
        self.counts[self._row(class_id)] += row
        return float(row[0] / row[1]) if row[1] else None

    def per_class(self) -> dict[int, float | None]:
        """IoU of each class; None for a class without an episode that has a pixel to count."""
        return {
            class_id: int(row[0]) / int(row[1]) if row[1] else None
            for class_id, row in zip(self.class_ids, self.counts, strict=True)
        }

    def missing_classes(self) -> tuple[int, ...]:
        """Classes that have no IoU and that `miou` therefore leaves out."""
        return tuple(class_id for class_id, iou in self.per_class().items() if iou is None)

    def miou(self) -> float:
        """Mean IoU over the classes that have one; report it with `missing_classes`.

        ValueError where no class has one.
        """
        ious = [iou for iou in self.per_class().values() if iou is not None]
        if not ious:
            raise ValueError("no episode was counted, so there is no mIoU")
        return sum(ious) / len(ious)

    def fb_iou(self) -> float:
        """Mean of foreground and background IoU over all episodes. ValueError where none is."""
        foreground, union, background, background_union, _ = self.counts.sum(axis=0).tolist()
        if not union or not background_union:
            raise ValueError("no foreground or no background was counted, so there is no FB-IoU")
        return float((foreground / union + background / background_union) / 2)

    def __add__(self, other: IoUCounts) -> IoUCounts:
        if self.class_ids != other.class_ids:
            raise ValueError(f"counts of {self.class_ids} and of {other.class_ids} do not add up")
        return IoUCounts(self.class_ids, self.counts + other.counts)

    def to_json(self) -> dict[str, Json]:
        """The counts by name, a list over the classes each."""
        columns: dict[str, Json] = {"class_ids": list(self.class_ids)}
        for name, column in zip(COLUMNS, self.counts.T, strict=True):
            columns[name] = column.tolist()
        return columns

    @classmethod
    def from_json(cls, record: Mapping[str, Json]) -> IoUCounts:
        """Counts as `to_json` wrote them. RecordError where they are not."""
        columns = [_integers(record, name) for name in ("class_ids", *COLUMNS)]
        if len({len(column) for column in columns}) != 1:
            raise RecordError("IoU counts have columns of different lengths: measure them again")
        class_ids, *counts = columns
        return cls(tuple(class_ids), np.array(counts, np.int64).T.copy())

    def _row(self, class_id: int) -> int:
        if class_id not in self.class_ids:
            raise ValueError(f"class {class_id} is not among the fold's {self.class_ids}")
        return self.class_ids.index(class_id)


def episode_counts(
    prediction_HW: NDArray[np.bool_], target_HW: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """The row of `COLUMNS` that one episode adds."""
    if prediction_HW.shape != target_HW.shape or prediction_HW.dtype != np.bool_:
        raise ValueError(
            f"a {prediction_HW.dtype} prediction {prediction_HW.shape} does not fit "
            f"a target {target_HW.shape}: it must be bool and of equal size"
        )
    foreground, background = target_HW == 1, target_HW == 0
    num_foreground, num_background = np.count_nonzero(foreground), np.count_nonzero(background)
    if num_foreground + num_background + np.count_nonzero(target_HW == IGNORE) != target_HW.size:
        raise ValueError("a target may only hold 0, 1 and 255")
    hits = np.count_nonzero(prediction_HW & foreground)
    false_alarms = np.count_nonzero(prediction_HW & background)
    return np.array(
        [
            hits,
            num_foreground + false_alarms,
            num_background - false_alarms,
            num_background + num_foreground - hits,
            1,
        ],
        np.int64,
    )


def _integers(record: Mapping[str, Json], name: str) -> list[int]:
    values = record.get(name)
    if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
        raise RecordError(f"IoU counts have no list of whole numbers {name!r}: measure them again")
    return values
