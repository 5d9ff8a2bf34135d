"""Counts of each test episode, and what the draw of the episodes alone does to the metrics.

A list of test episodes is one draw among many. The episode bootstrap draws lists of the same length
from it, with replacement, and measures each: the spread of those metrics is the error that the
choice of episodes causes, for this model (Efron and Tibshirani 1993, chapter 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from experiments.fewshot.metrics import COLUMNS, IoUCounts
from merge.results.statistics import LEVEL
from merge.storage.json_files import Json

REPLICATES = 1000
_SEED = 20_240_601
_CHUNK = 100
"""Lists drawn at once: bounds the memory to 100 x episodes."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class EpisodeCounts:
    """One row an episode of a test list, in the list's order."""

    class_ids: tuple[int, ...]
    """Classes of the fold."""
    class_of_each: NDArray[np.int64]
    rows: NDArray[np.int64]
    """Episodes by `metrics.COLUMNS`."""

    def total(self) -> IoUCounts:
        """Their sums by class."""
        counts = [self.rows[self.class_of_each == c].sum(axis=0) for c in self.class_ids]
        return IoUCounts(self.class_ids, np.stack(counts))

    def to_json(self) -> dict[str, Json]:
        """Columns of integers."""
        record: dict[str, Json] = {"class_ids": list(self.class_ids)}
        record["episode_class"] = self.class_of_each.tolist()
        for name, column in zip(COLUMNS[:-1], self.rows.T, strict=False):
            record[name] = column.tolist()
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Counts as `to_json` wrote them."""
        classes = np.array(record["episode_class"], np.int64)
        columns = [np.array(record[name], np.int64) for name in COLUMNS[:-1]]
        rows_E5 = np.stack([*columns, np.ones_like(classes)], axis=1)
        return cls(tuple(record["class_ids"]), classes, rows_E5)


def bootstrap(lists: Sequence[EpisodeCounts]) -> dict[str, Json]:
    """Standard error and 95% interval of the metrics, which are means over the test lists.

    Each list is drawn anew by itself, 1,000 times; the same for any number of ranks.
    """
    rng = np.random.default_rng(_SEED)
    drawn = [_replicates(counts, rng) for counts in lists]
    metrics = {name: np.mean([each[name] for each in drawn], axis=0) for name in drawn[0]}
    edges = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    return {
        "replicates": REPLICATES,
        "episodes": [len(counts.rows) for counts in lists],
        "level": LEVEL,
        "standard_error": {name: float(values.std(ddof=1)) for name, values in metrics.items()},
        "interval": {
            name: [float(edge) for edge in np.quantile(values, edges)]
            for name, values in metrics.items()
        },
    }


def _replicates(counts: EpisodeCounts, rng: np.random.Generator) -> dict[str, Floats]:
    """Metrics of `REPLICATES` drawn lists."""
    num_episodes = len(counts.rows)
    chances_E = np.full(num_episodes, 1 / num_episodes)
    mious, fb_ious = [], []
    for _ in range(REPLICATES // _CHUNK):
        times_RE = rng.multinomial(num_episodes, chances_E, size=_CHUNK).astype(np.float64)
        # Whole numbers below 2**53, so the products are exact in any order of summation.
        of_class = [counts.class_of_each == class_id for class_id in counts.class_ids]
        sums_CR5 = np.stack([times_RE[:, mask] @ counts.rows[mask] for mask in of_class])
        mious.append(_miou(sums_CR5))
        fb_ious.append(_fb_iou(sums_CR5.sum(axis=0)))
    return {"miou": np.concatenate(mious), "fb_iou": np.concatenate(fb_ious)}


def _miou(sums_CR5: Floats) -> Floats:
    """Mean over the classes that were drawn at all."""
    union = sums_CR5[..., 1]
    ious = np.divide(sums_CR5[..., 0], union, out=np.zeros_like(union), where=union > 0)
    mious: Floats = ious.sum(axis=0) / np.maximum((union > 0).sum(axis=0), 1)
    return mious


def _fb_iou(sums_R5: Floats) -> Floats:
    foreground = sums_R5[:, 0] / np.maximum(sums_R5[:, 1], 1)
    background = sums_R5[:, 2] / np.maximum(sums_R5[:, 3], 1)
    mean: Floats = (foreground + background) / 2
    return mean
