"""What a test list scores: the pixel counts of each episode, by rank, added up over ranks.

A method that iterates is counted after each of its T iterations; its metrics are those of the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.fewshot.episode_counts import EpisodeCounts
from experiments.fewshot.episodes.bam import Episode
from experiments.fewshot.loading import EvalItem
from experiments.fewshot.metrics import COLUMNS, Counts
from experiments.runtime.task import Sums, Tally


class EpisodeTally(Tally[Counts, EvalItem]):
    """T rows of `metrics.COLUMNS` an episode: 0 for those that other ranks predict."""

    def __init__(
        self, episodes: Sequence[Episode], class_ids: tuple[int, ...], num_iterations: int = 1
    ) -> None:
        self._class_ids = class_ids
        self._class_of_each = np.array([episode.class_id for episode in episodes], np.int64)
        self._rows = np.zeros((len(episodes), num_iterations, len(COLUMNS)), np.int64)

    def add(self, index: int, prediction: Counts, item: EvalItem) -> None:
        """Take the counts of one episode."""
        del item
        self._rows[index] = prediction

    def state(self) -> Sums:
        """Episodes by T by columns, int64."""
        return self._rows

    def metrics(self, state: Sums) -> dict[str, float]:
        """mIoU and FB-IoU, as fractions."""
        counts = self.counts(state).total()
        return {"miou": counts.miou(), "fb_iou": counts.fb_iou()}

    def counts(self, state: Sums) -> EpisodeCounts:
        """The counts of all episodes with their classes."""
        return self.by_iteration(state)[-1]

    def by_iteration(self, state: Sums) -> list[EpisodeCounts]:
        """The same after each iteration."""
        rows_TE5 = state.astype(np.int64).swapaxes(0, 1)
        return [EpisodeCounts(self._class_ids, self._class_of_each, rows) for rows in rows_TE5]
