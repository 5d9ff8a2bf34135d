"""Episodes as tensors: what a loader yields for training and for evaluation.

The random numbers of a training sample follow from (seed, epoch, index) alone, so they do not
depend on which rank or loader worker makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from experiments.datasets.shared_images import SharedImages
from experiments.fewshot.canvas import Canvases, stack
from experiments.fewshot.episodes.bam import Episode
from experiments.fewshot.episodes.source import Source
from experiments.fewshot.episodes.transforms import (
    EvalTransform,
    Placement,
    Sample,
    TrainTransform,
    binary_mask,
)
from experiments.runtime.seeds import numpy_generator

Bytes = NDArray[np.uint8]

_CACHED_BYTES = 256 * 2**20


class TrainBatch(NamedTuple):
    """Training episodes of one rank."""

    query: Canvases
    """B3HW"""
    support: Canvases
    """BK3HW"""
    support_mask: Tensor
    """BKHW, uint8 0/1/255"""
    target: Tensor
    """BHW, uint8 0/1/255"""


@dataclass(frozen=True, slots=True)
class EvalItem:
    """One test episode at the model's size, with its truth at the size that counts."""

    index: int
    episode: Episode
    query: Canvases
    """3HW"""
    support: Canvases
    """K3HW"""
    support_mask: Tensor
    """KHW, uint8 0/1/255"""
    placement: Placement
    truth: Bytes
    """HW, uint8 0/1/255"""


def share_images(source: Source) -> SharedImages:
    """The images of a source; as many as fit are decoded once, for all loader processes.

    Small data sets are decoded once; of large ones nothing useful fits, and little is lost.
    """
    names = dict.fromkeys((*source.names("train_all"), *source.names("val")))
    return SharedImages(
        names, lambda name: (source.image(name), source.mask(name)), max_bytes=_CACHED_BYTES
    )


@dataclass(frozen=True, slots=True)
class TrainDataset(Dataset[tuple[Sample, list[Sample]]]):
    """The episodes of one epoch, cropped and flipped: query and supports."""

    images: SharedImages
    episodes: Sequence[Episode]
    transform: TrainTransform
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> tuple[Sample, list[Sample]]:
        episode = self.episodes[index]
        rng = numpy_generator(self.seed, "augment", self.epoch, index)
        query, *supports = (
            self.transform(image_HW3, binary_mask(labels_HW, episode.class_id), rng)
            for image_HW3, labels_HW in map(self.images.read, (episode.query, *episode.supports))
        )
        return query, supports


@dataclass(frozen=True, slots=True)
class EvalDataset(Dataset[EvalItem]):
    """The test episodes, resized as the protocol says."""

    images: SharedImages
    episodes: Sequence[Episode]
    transform: EvalTransform
    is_original_size: bool = True
    """Whether predictions are counted at the query's own size, not at its resized one."""

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> EvalItem:
        episode = self.episodes[index]
        image_HW3, labels_HW = self.images.read(episode.query)
        truth_HW = binary_mask(labels_HW, episode.class_id)
        query, placement = self.transform(image_HW3, truth_HW)
        if not self.is_original_size:
            height, width = placement.resized_hw
            truth_HW = query.mask[:height, :width].numpy()
            placement = replace(placement, original_hw=placement.resized_hw)
        supports = [self._support(name, episode.class_id) for name in episode.supports]
        return EvalItem(
            index,
            episode,
            query.image,
            stack([support.image for support in supports]),
            torch.stack([support.mask for support in supports]),
            placement,
            truth_HW,
        )

    def _support(self, name: str, class_id: int) -> Sample:
        image_HW3, labels_HW = self.images.read(name)
        return self.transform(image_HW3, binary_mask(labels_HW, class_id))[0]


def collate(samples: Sequence[tuple[Sample, list[Sample]]]) -> TrainBatch:
    """Stack episodes of equal shot and size."""
    return TrainBatch(
        stack([query.image for query, _ in samples]),
        stack([stack([support.image for support in supports]) for _, supports in samples]),
        torch.stack([torch.stack([s.mask for s in supports]) for _, supports in samples]),
        torch.stack([query.mask for query, _ in samples]),
    )
