"""Data sets in VOC layout: photographs, 8-bit label maps and lists of names."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from experiments.datasets.index import (
    ClassIndex,
    ImageLabels,
    cached_arrays,
    files_stamp,
    index_path,
)
from experiments.datasets.labels import Bytes, read_label_map, read_photograph
from experiments.datasets.layouts import ImageList, VocLayout, examples, no_train_list, read_names
from experiments.datasets.pair_lists import Pair, read_pair_lists
from merge.errors import DataError
from merge.storage.json_files import canonical_json

logger = logging.getLogger(__name__)

# Pillow and zlib release the GIL while they decode; more threads gained nothing.
_NUM_THREADS = 4
_PROGRESS_EVERY = 2000


@dataclass(frozen=True, slots=True, eq=False)
class VocSource:
    """A Source in VOC layout; opened with `VocSource.open`."""

    name: str
    folds: tuple[tuple[int, ...], ...]
    layout: VocLayout
    index: ClassIndex
    rows: Mapping[str, int]
    lists: Mapping[str, tuple[str, ...]]
    """Names by list; no "train" where the training list is not known."""

    mask_variant = "native"

    @classmethod
    def open(
        cls,
        name: str,
        layout: VocLayout,
        folds: tuple[tuple[int, ...], ...],
        cache_dir: Path,
    ) -> VocSource:
        """The source of `layout`, its label maps indexed in `cache_dir`; opens no photograph.

        DataError where a list or a label map is missing, unreadable or does not fit the other
        files.
        """
        num_classes = sum(len(fold) for fold in folds)
        index = _open_index(name, layout.masks, num_classes, cache_dir)
        lists = _read_lists(layout, index)
        return cls(name, folds, layout, index, index.rows(), lists)

    @property
    def num_classes(self) -> int:
        return sum(len(fold) for fold in self.folds)

    def names(self, image_list: ImageList) -> tuple[str, ...]:
        if image_list not in self.lists:
            raise no_train_list(self.layout)
        return self.lists[image_list]

    def image(self, name: str) -> Bytes:
        path = self.layout.photographs / f"{name}.jpg"
        image_HW3 = read_photograph(path)
        height, width = self.index.sizes[self.rows[name]].tolist()
        if image_HW3.shape[:2] != (height, width):
            raise DataError(
                f"photograph {path} has {image_HW3.shape[1]}x{image_HW3.shape[0]} pixels, its "
                f"label map {self._mask_path(name)} has {width}x{height}: restore both from the "
                "data set"
            )
        return image_HW3

    def mask(self, name: str) -> Bytes:
        return read_label_map(self._mask_path(name), self.num_classes)

    def class_areas(self, image_list: ImageList) -> dict[str, dict[int, int]]:
        areas = self.index.class_areas()
        return {name: areas[name] for name in self.names(image_list)}

    def listed_pairs(self, split: str, fold: int) -> tuple[Pair, ...] | None:
        folder = self.layout.pair_lists
        return None if folder is None else read_pair_lists(folder, split, fold, self.folds)

    def fingerprint(self) -> str:
        content = [self.name, self.index.digest(), {k: list(v) for k, v in self.lists.items()}]
        return hashlib.sha256(canonical_json(content)).hexdigest()[:16]

    def check_photographs(self) -> None:
        """DataError where a label map has no photograph."""
        present = {path.stem for path in self.layout.photographs.glob("*.jpg")}
        missing = set(self.index.names) - present
        if missing:
            raise DataError(
                f"{self.layout.photographs} lacks the photographs of {examples(missing)} of the "
                f"{len(self.index.names):,} label maps in {self.layout.masks}: unpack the data "
                "set's photographs there again"
            )

    def _mask_path(self, name: str) -> Path:
        return self.layout.masks / f"{name}.png"


def _open_index(name: str, masks: Path, num_classes: int, cache_dir: Path) -> ClassIndex:
    files = sorted(masks.glob("*.png"))
    if not files:
        raise DataError(
            f"{masks} holds no label map (*.png): unpack the data set's label maps there"
        )
    path = index_path(cache_dir, name, files_stamp(files, num_classes))
    return ClassIndex.from_arrays(
        cached_arrays(path, lambda: _index_masks(files, num_classes).to_arrays())
    )


def _index_masks(files: list[Path], num_classes: int) -> ClassIndex:
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        try:
            labels = pool.map(lambda path: ImageLabels.of(read_label_map(path, num_classes)), files)
            return ClassIndex.build([path.stem for path in files], _logged(labels, len(files)))
        except DataError:
            pool.shutdown(cancel_futures=True)
            raise


def _logged(labels: Iterable[ImageLabels], total: int) -> Iterable[ImageLabels]:
    for done, entry in enumerate(labels, start=1):
        if done % _PROGRESS_EVERY == 0:
            logger.info("%d of %d label maps indexed", done, total)
        yield entry


def _read_lists(layout: VocLayout, index: ClassIndex) -> dict[str, tuple[str, ...]]:
    val = set(read_names(layout.val_list))
    lists = {"val": val, "train_all": set(index.names) - val}
    if layout.train_lists:
        lists["train"] = {name for path in layout.train_lists for name in read_names(path)}
        _check_apart(lists["train"], val, layout)
    for names in lists.values():
        _check_labelled(names, index, layout)
    return {image_list: tuple(sorted(names)) for image_list, names in lists.items()}


def _check_apart(train: set[str], val: set[str], layout: VocLayout) -> None:
    shared = train & val
    if shared:
        listed = " and ".join(str(path) for path in layout.train_lists)
        raise DataError(
            f"{examples(shared)} of the images for testing in {layout.val_list} are also in "
            f"{listed}: take a training list without them (SBD's is called train_noval.txt)"
        )


def _check_labelled(names: set[str], index: ClassIndex, layout: VocLayout) -> None:
    missing = names - set(index.names)
    if missing:
        raise DataError(
            f"{layout.masks} lacks the label maps of {examples(missing)} of the "
            f"{len(names):,} listed images: take those of VOC2012 and SBD together"
        )
