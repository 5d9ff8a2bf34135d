"""What one run trains and tests on: splits, episode lists, transforms."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.datasets.resizing import Resampling
from experiments.datasets.shared_images import SharedImages
from experiments.fewshot.canvas import BLACK_RGB, Rgb
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
from experiments.fewshot.loading import EvalDataset, TrainDataset, share_images
from experiments.fewshot.options import Options
from experiments.runtime.run_context import RunContext


@dataclass(frozen=True, slots=True)
class FewShotData:
    """The data of one run; all of it follows from the configuration and the data set."""

    options: Options
    source: Source
    train_split: Split
    test_split: Split
    test_lists: tuple[tuple[Episode, ...], ...]
    """One for each test seed."""
    images: SharedImages

    @property
    def episodes_per_epoch(self) -> int:
        """Training episodes in an epoch: the option's number, or one pass over the images."""
        return self.options.training.episodes_per_epoch or epoch_length(self.train_split)

    def train_dataset(self, epoch: int) -> TrainDataset:
        """The training episodes of `epoch`, counted from 0."""
        images = self.options.images
        episodes = train_list(
            self.train_split,
            shot=self.options.data.shot,
            num_episodes=self.episodes_per_epoch,
            seed=self.options.runtime.seed,
            epoch=epoch,
        )
        transform = TrainTransform(
            size=images.image_size,
            scale_range=images.scale_range(self.options.data.dataset),
            scale_of=images.scale_of,
            flip_probability=images.flip_probability,
            crop_keeps=images.crop_keeps,
            is_ignored_background=images.ignored_pixels == "background",
            resampling=self._resampling,
        )
        return TrainDataset(self.images, episodes, transform, self.options.runtime.seed, epoch)

    def test_datasets(self) -> tuple[EvalDataset, ...]:
        """The test episodes of each test seed."""
        transform = self._test_transform()
        return tuple(
            EvalDataset(self.images, episodes, transform, self.options.counts_at_original_size)
            for episodes in self.test_lists
        )

    def test_fill_rgb(self, mean_rgb: Rgb) -> Rgb:
        """The colour that pads test images; `mean_rgb` is 0 once the backbone normalises it."""
        return BLACK_RGB if self.options.images.test_padding == "black" else mean_rgb

    @property
    def _resampling(self) -> Resampling:
        return "opencv" if self.options.data.protocol == "bam" else "pillow"

    def _test_transform(self) -> EvalTransform:
        images = self.options.images
        if self.options.data.protocol != "bam":
            return Squash(size=images.image_size, resampling=self._resampling)
        return FitLongerSide(
            size=images.image_size, multiple=images.test_multiple, resampling=self._resampling
        )


def open_data(options: Options, context: RunContext) -> FewShotData:
    """Open the data set and draw the test lists. DataError: it is missing or too small."""
    chosen = options.data
    source = open_source(
        chosen.dataset, context.data_root, context.cache_dir, mask_variant=chosen.mask_variant
    )
    min_area_px = chosen.min_area_px or None
    train_split, test_split = (
        build_split(source, chosen.protocol, chosen.fold, split, min_area_px=min_area_px)
        for split in ("train", "val")
    )
    test_lists = tuple(
        test_list(test_split, shot=chosen.shot, num_episodes=options.test.test_episodes, seed=seed)
        for seed in options.test_seeds
    )
    return FewShotData(options, source, train_split, test_split, test_lists, share_images(source))
