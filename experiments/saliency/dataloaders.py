"""MIT1003 as torch DataLoaders, for a training script of one's own.

from experiments.saliency.dataloaders import create_mit1003_dataloaders

train, validation = create_mit1003_dataloaders("/data/MIT1003", world_size=4, rank=rank)
for epoch in range(20):
    if world_size > 1:
        train.sampler.set_epoch(epoch)
    for batch in train: ...
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler, Sampler

from experiments.runtime.seeds import torch_generator
from experiments.saliency.files import FileSource
from experiments.saliency.hdf5 import FILE_NAME, Hdf5Source
from experiments.saliency.items import as_image, fixation_counts, resized
from experiments.saliency.points import Size
from experiments.saliency.source import Source, decoded, read_rgb
from experiments.saliency.splits import holdout
from merge.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Loader = DataLoader[dict[str, Any]]


def create_mit1003_dataloaders(  # noqa: PLR0913, PLR0917
    data_path: str | Path,
    batch_size: int = 32,
    num_workers: int = 8,
    image_size: tuple[int, int] = (1024, 768),
    normalize: bool = True,
    seed: int = 42,
    world_size: int = 1,
    rank: int = 0,
) -> tuple[Loader, Loader]:
    """Loaders of the 902 training and 101 validation images of a seeded split.

    `data_path` is a folder with ALLSTIMULI and ALLFIXATIONMAPS, or an HDF5 file that
    `replicate data mit1003-hdf5` made. `batch_size` counts images of one process; `image_size` is
    width and height. A batch has

        image            B3HW float32: normalised by ImageNet's mean and deviation, else 0 to 1
        fixation_map     B1HW float32, 0 to 1: the smoothed map that comes with the data set
        fixation_counts  B1HW float32: fixations in each pixel; resizing keeps their number
        index            B int64: the image's place among all, sorted by name

    The training images are shuffled, with a DistributedSampler where there are several processes;
    call its `set_epoch` before each epoch. Shards are disjoint: where images do not divide into
    equal shards, the rest is left out, another rest in each epoch. Validation images keep their
    order, and over all processes each comes once, so shards may differ by one image.

    DataError: files are missing or damaged. UsageError: there is no such rank.
    """
    if not 0 <= rank < world_size:
        raise UsageError(f"rank={rank} with world_size={world_size}: ranks count from 0")
    source = _open(Path(data_path))
    split = holdout(len(source.stimuli), seed)
    train = Mit1003Items(source, split.train, image_size, normalize)
    validation = Mit1003Items(source, split.test, image_size, normalize)
    common: dict[str, Any] = {
        "batch_size": batch_size,
        "num_workers": num_workers,
        "pin_memory": torch.cuda.is_available(),
    }
    train_sampler = _train_sampler(train, seed, world_size, rank)
    validation_sampler = EveryNth(len(validation), world_size, rank) if world_size > 1 else None
    return (
        DataLoader(train, sampler=train_sampler, **common),
        DataLoader(validation, sampler=validation_sampler, shuffle=False, **common),
    )


@dataclass(frozen=True, slots=True)
class Mit1003Items(Dataset[dict[str, Any]]):
    """Some images of the data set, each with its fixations at one size."""

    source: Source
    images: tuple[int, ...]
    size: Size
    normalize: bool

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = self.images[index]
        stimulus = self.source.stimuli[place]
        image_3HW = as_image(resized(read_rgb(self.source, place), self.size)).float() / 255
        smooth = decoded(self.source.map_file(place), stimulus.name, "L").resize(self.size)
        counts_HW = fixation_counts(stimulus, self.size)
        return {
            "image": normalised_once(image_3HW) if self.normalize else image_3HW,
            "fixation_map": torch.from_numpy(np.asarray(smooth, np.float32) / 255)[None],
            "fixation_counts": torch.from_numpy(counts_HW.astype(np.float32))[None],
            "index": place,
        }


class EveryNth(Sampler[int]):
    """Places rank, rank + n, rank + 2n, ...: all places once over n processes, none padded."""

    def __init__(self, num_items: int, world_size: int, rank: int) -> None:
        self._places = range(rank, num_items, world_size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def normalised_once(image_3HW: Tensor) -> Tensor:
    """RGB of 0 to 1 by the mean and deviation of ImageNet's training images."""
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    return (image_3HW - mean) / std


def _train_sampler(items: Mit1003Items, seed: int, world_size: int, rank: int) -> Sampler[int]:
    if world_size == 1:
        return RandomSampler(items, generator=torch_generator(seed, "mit1003", "train"))
    # Without drop_last it fills shards up with images that another process has: 902 became 904.
    return DistributedSampler(
        items,
        num_replicas=world_size,
        rank=rank,
        shuffle=True,
        seed=seed,
        drop_last=True,
    )


def _open(data_path: Path) -> Source:
    if data_path.is_file():
        return Hdf5Source.open(data_path)
    if (data_path / FILE_NAME).is_file() and not (data_path / "ALLSTIMULI").is_dir():
        return Hdf5Source.open(data_path / FILE_NAME)
    return FileSource.open(data_path, _cache_folder(), "points")


def _cache_folder() -> Path:
    """The folder that `replicate --cache-dir` has by default."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    named = os.environ.get("PAPERGRID_CACHE_DIR")
    return Path(named or f"{base}/papergrid").expanduser()
