"""What one run trains and tests on: splits, episode lists, transforms."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.fewshot.config import FewShotConfig
from experiments.fewshot.episodes.bam import Episode
from experiments.fewshot.episodes.lists import epoch_length, test_list, train_list
from experiments.fewshot.episodes.protocols import Split, build_split
from experiments.fewshot.episodes.source import Source, open_source
from experiments.fewshot.episodes.transforms import (
    EvalTransform,
    FitLongerSide,
    Squash,
    TrainTransform,
)
from experiments.fewshot.loading import EvalDataset, ImageCache, TrainDataset
from experiments.runtime.run_context import RunContext

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Task:
    """The data of one run; all of it follows from the configuration and the data set."""

    config: FewShotConfig
    source: Source
    train_split: Split
    test_split: Split
    test_lists: tuple[tuple[Episode, ...], ...]
    """One for each test seed."""
    images: ImageCache

    @property
    def episodes_per_epoch(self) -> int:
        return self.config.episodes_per_epoch or epoch_length(self.train_split)

    def train_dataset(self, epoch: int, fill_rgb: Rgb) -> TrainDataset:
        """The training episodes of `epoch`, counted from 0."""
        config = self.config
        episodes = train_list(
            self.train_split,
            shot=config.shot,
            num_episodes=self.episodes_per_epoch,
            seed=config.seed,
            epoch=epoch,
        )
        transform = TrainTransform(
            size=config.image_size,
            scale_range=(config.scale_min, config.scale_max),
            flip_probability=config.flip_probability,
            fill_rgb=fill_rgb,
        )
        return TrainDataset(self.images, episodes, transform, config.seed, epoch)

    def test_datasets(self, fill_rgb: Rgb) -> tuple[EvalDataset, ...]:
        """The test episodes of each test seed."""
        transform = self._test_transform(fill_rgb)
        return tuple(
            EvalDataset(self.images, episodes, transform, self.config.counts_at_original_size)
            for episodes in self.test_lists
        )

    def _test_transform(self, fill_rgb: Rgb) -> EvalTransform:
        if self.config.protocol == "bam":
            return FitLongerSide(size=self.config.image_size, fill_rgb=fill_rgb)
        return Squash(size=self.config.image_size)


def open_task(config: FewShotConfig, context: RunContext) -> Task:
    """Open the data set and draw the test lists. DataError: it is missing or too small."""
    source = open_source(
        config.dataset, context.data_root, context.cache_dir, mask_variant=config.mask_variant
    )
    min_area_px = config.min_area_px or None
    train_split, test_split = (
        build_split(source, config.protocol, config.fold, split, min_area_px=min_area_px)
        for split in ("train", "val")
    )
    test_lists = tuple(
        test_list(test_split, shot=config.shot, num_episodes=config.test_episodes, seed=seed)
        for seed in config.chosen_test_seeds
    )
    return Task(config, source, train_split, test_split, test_lists, ImageCache(source))
