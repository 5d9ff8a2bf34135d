"""What one run trains, validates and tests on. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from experiments.camouflage.data.layouts import Layout, find_cod10k
from experiments.camouflage.data.pairs import Pair, fingerprint, names_hash, read_pairs
from experiments.camouflage.options import DataOptions
from experiments.datasets.tiny_cod10k import ensure_tiny_cod10k
from experiments.runtime.seeds import numpy_generator
from experiments.runtime.splits import split_of
from merge.storage.json_files import Json


@dataclass(frozen=True, slots=True)
class CamouflageData:
    """The images of a run; all of them follow from the configuration and the data set."""

    layout: Layout
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    """Taken from the training images; empty where the best epoch is chosen on the test images."""
    test: tuple[Pair, ...]
    fingerprint: str
    """Of all images of the data set together."""

    @property
    def validation_hash(self) -> str:
        """Hash of the names that validate."""
        return names_hash(self.validation)

    def epoch(self, num_images: int, seed: int, epoch: int) -> tuple[Pair, ...]:
        """The images that train in `epoch`: `num_images` of them, or all for 0."""
        if not 0 < num_images < len(self.train):
            return self.train
        order = numpy_generator(seed, "epoch images", epoch).permutation(len(self.train))
        return tuple(self.train[index] for index in order[:num_images])

    def of(self, name: str) -> tuple[Pair, ...]:
        """The images of the list `val` or `test`."""
        return self.validation if name == "val" else self.test

    def details(self) -> dict[str, Json]:
        """What must be equal to compare two results."""
        return {
            "data_layout": self.layout.name,
            "data_fingerprint": self.fingerprint,
            "train_images": len(self.train),
            "validation_images": len(self.validation),
            "validation_hash": self.validation_hash,
            "test_images": len(self.test),
            "test_list_hash": names_hash(self.test),
            "eval_size": "original",
        }


def find_data(options: DataOptions, data_root: Path | None, cache_dir: Path) -> Layout:
    """The copy of the data set that the options name. DataError: there is none."""
    if options.dataset == "tiny_cod10k":
        return find_cod10k(ensure_tiny_cod10k(cache_dir))
    return find_cod10k(data_root)


def open_data(options: DataOptions, data_root: Path | None, cache_dir: Path) -> CamouflageData:
    """The three lists. DataError: data is missing. UsageError: too few images to validate."""
    layout = find_data(options, data_root, cache_dir)
    training, test = (
        read_pairs(layout.splits[split], options.subset) for split in ("train", "test")
    )
    train, validation = _divided(training, options)
    return CamouflageData(
        layout, train, validation, _sample(test, options), fingerprint([*training, *test])
    )


def _divided(
    training: tuple[Pair, ...], options: DataOptions
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """The images that train, and those that validate; none where the test images choose."""
    if options.best_on == "test":
        return training, ()
    parts = split_of(len(training), options.validation, options.validation_seed)
    train, validation = (tuple(training[index] for index in part) for part in parts)
    return train, validation


def _sample(pairs: tuple[Pair, ...], options: DataOptions) -> tuple[Pair, ...]:
    """All of the test images, or as many as the options ask for, in their order."""
    if not 0 < options.test_images < len(pairs):
        return pairs
    order = numpy_generator(options.validation_seed, "test images").permutation(len(pairs))
    return tuple(pairs[index] for index in sorted(order[: options.test_images]))
