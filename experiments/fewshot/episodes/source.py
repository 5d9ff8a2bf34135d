"""A source of photographs and label maps: one interface for all layouts on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, get_args

from experiments.datasets.labels import Bytes
from experiments.datasets.layouts import ImageList, find_coco20i, find_pascal5i, voc_layout
from experiments.datasets.pair_lists import Pair
from experiments.datasets.voc import VocSource
from merge.errors import DataError

Dataset = Literal["pascal5i", "coco20i", "shapes5i"]
MaskVariant = Literal["exact", "field"]
"""How COCO's objects become label maps (see coco_masks); label maps on disk have one form only."""

NUM_FOLDS = 4


class Source(Protocol):
    """Images by name. A class id is 1..num_classes; a label map has 0 and 255 besides."""

    @property
    def name(self) -> str: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def folds(self) -> tuple[tuple[int, ...], ...]:
        """The class ids that each fold tests."""
        ...

    @property
    def mask_variant(self) -> str:
        """How the label maps were made: "native" where they lie on disk, or a MaskVariant."""
        ...

    def names(self, image_list: ImageList) -> tuple[str, ...]:
        """The image names of a list, sorted."""
        ...

    def image(self, name: str) -> Bytes:
        """RGB uint8 HW3. DataError where it is missing, unreadable or not of its mask's size."""
        ...

    def mask(self, name: str) -> Bytes:
        """Label map, uint8 HW."""
        ...

    def class_areas(self, image_list: ImageList) -> dict[str, dict[int, int]]:
        """Pixels by class id, by image; from the index, no image is opened."""
        ...

    def listed_pairs(self, split: str, fold: int) -> tuple[Pair, ...] | None:
        """The pairs of HSNet's own lists, in their order; None where the data root has none."""
        ...

    def fingerprint(self) -> str:
        """16 hex digits of names, lists and class areas: equal for equal data on any machine."""
        ...


def open_source(
    dataset: str,
    data_root: Path | None,
    cache_dir: Path,
    mask_variant: str = "exact",
) -> Source:
    """The data set below `data_root`, indexed in `cache_dir` on first use.

    shapes5i needs no data root: it is generated into `cache_dir`. DataError where the data set is
    unknown, not there or incomplete; StorageError where `cache_dir` cannot be written.
    """
    _check_choice("data set", dataset, get_args(Dataset))
    _check_choice("mask variant", mask_variant, get_args(MaskVariant))
    if dataset == "shapes5i":
        return _open_shapes5i(cache_dir)
    if data_root is None:
        raise DataError(f"{dataset} needs a data root: name its folder with --data-root PATH")
    if dataset == "pascal5i":
        return _open_pascal5i(data_root, cache_dir)
    return _open_coco20i(data_root, cache_dir, mask_variant)


def contiguous_folds(num_classes: int) -> tuple[tuple[int, ...], ...]:
    """Fold i tests the i-th quarter of the classes (PASCAL-5i: 5i+1 ... 5i+5)."""
    size = num_classes // NUM_FOLDS
    return tuple(tuple(range(size * i + 1, size * (i + 1) + 1)) for i in range(NUM_FOLDS))


def interleaved_folds(num_classes: int) -> tuple[tuple[int, ...], ...]:
    """Fold i tests every fourth class (COCO-20i: 0-based indices i, i+4, i+8, ...)."""
    return tuple(tuple(range(i + 1, num_classes + 1, NUM_FOLDS)) for i in range(NUM_FOLDS))


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise DataError(f"there is no {what} {value!r}; choose one of {', '.join(choices)}")


def _open_shapes5i(cache_dir: Path) -> Source:
    from experiments.datasets.shapes import ensure_shapes5i

    layout = voc_layout(ensure_shapes5i(cache_dir))
    return VocSource.open("shapes5i", layout, contiguous_folds(20), cache_dir)


def _open_pascal5i(data_root: Path, cache_dir: Path) -> Source:
    layout = find_pascal5i(data_root)
    source = VocSource.open("pascal5i", layout, contiguous_folds(20), cache_dir)
    source.check_photographs()
    return source


def _open_coco20i(data_root: Path, cache_dir: Path, mask_variant: str) -> Source:
    from experiments.datasets.coco import CocoSource

    layout = find_coco20i(data_root)
    source = CocoSource.open(layout, interleaved_folds(80), cache_dir, mask_variant)
    source.check_photographs()
    return source
