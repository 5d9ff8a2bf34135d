"""What one run trains and tests on: the splits, their images in each epoch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.image_folder import ImageFolder, read_train_and_val
from experiments.datasets.shape_images import ensure_shapes5
from experiments.imagenet.images import CentreCrops, Images, RandomCrops
from experiments.imagenet.options import Options
from experiments.runtime.seeds import numpy_generator
from experiments.runtime.splits import split_of
from merge.errors import DataError

_TEST_SEED = 0


@dataclass(frozen=True, slots=True)
class ImagenetData:
    """The data of a run; all of it follows from the configuration and the data set."""

    options: Options
    train: ImageFolder
    test: ImageFolder
    """Named `val` in ImageNet's folders, and `test` in everything that papergrid shows."""
    chosen: NDArray[np.int64]
    """Indices of the training images that train."""
    held_out: NDArray[np.int64]
    """Of those on which the best epoch is chosen; empty where none are held out."""
    tested: NDArray[np.int64]
    """Indices of the test images; all of them, but for the option `subset`."""

    @property
    def num_classes(self) -> int:
        """Classes of both splits."""
        return len(self.train.classes)

    def random_crops(self, epoch: int, side: int) -> Images:
        """The training images of an epoch in random crops."""
        options = self.options
        crops = RandomCrops(side, options.augmentation, options.runtime.seed, epoch)
        return Images(self.train, crops, self.chosen)

    def train_as_tested(self) -> Images:
        """The training images, cropped as in a test."""
        return Images(self.train, self._test_crops(), self.chosen)

    def eval_images(self, name: str) -> Images:
        """The images of the list "test" or "validation"."""
        if name == "test":
            return Images(self.test, self._test_crops(), self.tested)
        return Images(self.train, self._test_crops(), self.held_out)

    def labels(self, name: str) -> NDArray[np.int64]:
        """The true classes of a list."""
        if name == "test":
            return self.test.labels[self.tested]
        return self.train.labels[self.held_out]

    def _test_crops(self) -> CentreCrops:
        return CentreCrops(self.options.sizes.test_size, self.options.sizes.test_crop)


def open_data(options: Options, data_root: Path | None, cache_dir: Path) -> ImagenetData:
    """List the images. DataError: there is no data root, or what it holds cannot be used."""
    train, test = read_train_and_val(find_root(options, data_root, cache_dir), cache_dir)
    chosen, held_out = _used(train, options, "train"), np.arange(0)
    if options.data.validation:
        parts = split_of(len(chosen), options.data.validation, options.runtime.seed)
        chosen, held_out = (chosen[part] for part in parts)
    return ImagenetData(options, train, test, chosen, held_out, _used(test, options, "test"))


def _used(images: ImageFolder, options: Options, name: str) -> NDArray[np.int64]:
    """Indices of the images that are used, in ascending order.

    Test images are the same for every seed: results of different seeds stand in one mean.
    """
    if not 0 < options.data.subset < len(images):
        return np.arange(len(images))
    seed = _TEST_SEED if name == "test" else options.runtime.seed
    order = numpy_generator(seed, "subset", name).permutation(len(images))
    return np.sort(order[: options.data.subset])


def find_root(options: Options, data_root: Path | None, cache_dir: Path) -> Path:
    """The folder that holds train/ and val/, or is above it."""
    if options.data.dataset == "shapes5":
        return ensure_shapes5(cache_dir)
    if data_root is None:
        raise DataError(
            "dataset=imagenet needs --data-root DIR: the folder that holds train/ and val/, each "
            "with one folder of images a class (docs/data.md)"
        )
    return data_root
