"""Which images train and which are tested: the seeded 902/101 split, and ten folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.runtime.splits import split_of
from experiments.saliency.options import DataOptions
from merge.errors import UsageError

NUM_FOLDS = 10
_TRAIN_TENTHS = 9


@dataclass(frozen=True, slots=True)
class Split:
    """Places of images in the data set, ascending; together they are all."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    validation: tuple[int, ...] = ()
    """On which the best epoch is chosen."""

    def validated(self, share: float, seed: int) -> Split:
        """With a share of the training images for the choice of the best epoch.

        UsageError: it leaves none on one side.
        """
        if not share:
            return self
        training, validating = split_of(len(self.train), share, seed)
        train, validation = (
            tuple(self.train[place] for place in places) for places in (training, validating)
        )
        return Split(train, self.test, validation)


def holdout(num_images: int, seed: int = 42) -> Split:
    """Nine tenths, rounded down, train and the rest is tested: 902 and 101 images of 1003."""
    order = np.random.default_rng(seed).permutation(num_images)
    num_train = num_images * _TRAIN_TENTHS // 10
    return _split(order[num_train:], num_images)


def fold_of(num_images: int, fold: int, seed: int = 42) -> Split:
    """Fold `fold` of ten, which differ by at most one image, is tested; the others train."""
    order = np.random.default_rng(seed).permutation(num_images)
    return _split(np.array_split(order, NUM_FOLDS)[fold], num_images)


def split_of_data(data: DataOptions, num_images: int) -> Split:
    """The lists that the options ask for. UsageError: a list would be empty."""
    whole = (
        fold_of(num_images, data.fold, data.split_seed)
        if data.split == "folds"
        else holdout(num_images, data.split_seed)
    )
    if not (whole.train and whole.test):
        raise UsageError(
            f"with split={data.split} a list of the {num_images} images is empty: the data set is "
            "not whole"
        )
    return whole.validated(data.validation, data.split_seed)


def _split(test: np.ndarray[tuple[int], np.dtype[np.int64]], num_images: int) -> Split:
    tested = frozenset(test.tolist())
    rest = tuple(index for index in range(num_images) if index not in tested)
    return Split(rest, tuple(sorted(tested)))
