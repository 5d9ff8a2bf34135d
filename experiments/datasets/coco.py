"""COCO2014 as a source: label maps are drawn once from the annotations and kept packed.

    <cache>/index/coco20i-<variant>-<split>-<stamp>.npz    class index, and where each map begins
    <cache>/index/coco20i-<variant>-<split>-<stamp>.maps   the label maps, each zlib-compressed

For all of COCO2014 this takes some six minutes and 3 GB of memory once, and 0.6 GB of disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.coco_annotations import (
    CocoImage,
    check_same_categories,
    read_annotations,
)
from experiments.datasets.coco_masks import rasterise
from experiments.datasets.index import (
    Arrays,
    ClassIndex,
    ImageLabels,
    cached_arrays,
    damaged,
    files_stamp,
    index_path,
)
from experiments.datasets.labels import Bytes, read_photograph
from experiments.datasets.layouts import CocoLayout, ImageList, examples
from experiments.datasets.pair_lists import Pair, read_coco_pair_lists
from merge.errors import DataError
from merge.storage.atomic import write_atomic
from merge.storage.json_files import canonical_json

logger = logging.getLogger(__name__)

_COMPRESSION = 3
_KEPT = {"exact": "categories", "field": "categories, every polygon filled"}
"""Part of an index's stamp by mask variant: one that was made before it held the categories, or by
another rule of drawing, is made again."""
_PROGRESS_EVERY_S = 15.0


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The images of one annotation file."""

    photographs: Path
    maps: Path
    starts: NDArray[np.int64]
    """N + 1 positions in `maps`: where each label map begins, and the end of the last."""
    index: ClassIndex
    rows: Mapping[str, int]
    categories: Mapping[int, str]
    """Names by COCO's own ids."""

    def size(self, name: str) -> tuple[int, int]:
        height, width = self.index.sizes[self.rows[name]].tolist()
        return height, width

    def mask(self, name: str) -> Bytes:
        row = self.rows[name]
        start, end = self.starts[row : row + 2].tolist()
        try:
            with self.maps.open("rb") as file:
                file.seek(start)
                pixels = zlib.decompress(file.read(end - start))
        except (OSError, zlib.error) as error:
            raise damaged(self.maps, error) from error
        return np.frombuffer(bytearray(pixels), np.uint8).reshape(self.size(name))


@dataclass(frozen=True, slots=True, eq=False)
class CocoSource:
    """COCO-20i on COCO2014; opened with `CocoSource.open`. An image's name has no suffix."""

    folds: tuple[tuple[int, ...], ...]
    mask_variant: str
    parts: Mapping[str, _Part]
    pair_lists: Path | None = None
    """The folder with HSNet's own lists, where there is one."""

    name = "coco20i"

    @classmethod
    def open(
        cls,
        layout: CocoLayout,
        folds: tuple[tuple[int, ...], ...],
        cache_dir: Path,
        mask_variant: str,
    ) -> CocoSource:
        """The source of `layout`; opens no photograph.

        On first use the annotations are read and drawn (see the module for what that takes).
        DataError where an annotation file is unreadable or not of COCO2014.
        """
        parts = {
            split: _open_part(split, layout, cache_dir, mask_variant)
            for split in layout.annotations
        }
        check_same_categories(
            {layout.annotations[split]: part.categories for split, part in parts.items()}
        )
        _check_apart(parts)
        return cls(folds, mask_variant, parts, layout.pair_lists)

    @property
    def num_classes(self) -> int:
        return sum(len(fold) for fold in self.folds)

    def names(self, image_list: ImageList) -> tuple[str, ...]:
        return self._listed(image_list).index.names

    def image(self, name: str) -> Bytes:
        part = self._part_of(name)
        path = part.photographs / f"{name}.jpg"
        image_HW3 = read_photograph(path)
        height, width = part.size(name)
        if image_HW3.shape[:2] != (height, width):
            raise DataError(
                f"photograph {path} has {image_HW3.shape[1]}x{image_HW3.shape[0]} pixels, its "
                f"annotations are for {width}x{height}: restore it from COCO2014"
            )
        return image_HW3

    def mask(self, name: str) -> Bytes:
        return self._part_of(name).mask(name)

    def class_areas(self, image_list: ImageList) -> dict[str, dict[int, int]]:
        return self._listed(image_list).index.class_areas()

    def listed_pairs(self, split: str, fold: int) -> tuple[Pair, ...] | None:
        if self.pair_lists is None:
            return None
        return read_coco_pair_lists(self.pair_lists, split, fold, self.folds)

    def fingerprint(self) -> str:
        digests = {split: part.index.digest() for split, part in self.parts.items()}
        content = canonical_json([self.name, self.mask_variant, digests])
        return hashlib.sha256(content).hexdigest()[:16]

    def check_photographs(self) -> None:
        """DataError where a listed image has no photograph."""
        for part in self.parts.values():
            present = {path.stem for path in part.photographs.glob("*.jpg")}
            missing = part.rows.keys() - present
            if missing:
                raise DataError(
                    f"{part.photographs} lacks {examples(missing)} of the "
                    f"{len(part.rows):,} annotated photographs: unpack "
                    f"{part.photographs.name}.zip there again"
                )

    def _listed(self, image_list: ImageList) -> _Part:
        return self.parts["val" if image_list == "val" else "train"]

    def _part_of(self, name: str) -> _Part:
        return next(part for part in self.parts.values() if name in part.rows)


def _open_part(split: str, layout: CocoLayout, cache_dir: Path, variant: str) -> _Part:
    source = layout.annotations[split]
    stamp = files_stamp([source], variant, _KEPT[variant])
    path = index_path(cache_dir, f"coco20i-{variant}-{split}", stamp)
    maps = path.with_suffix(".maps")
    arrays = cached_arrays(path, lambda: _draw(source, maps, variant))
    index = ClassIndex.from_arrays(arrays)
    categories = dict(json.loads(arrays["categories"].tobytes()))
    photographs = layout.photographs[split]
    return _Part(photographs, maps, arrays["starts"], index, index.rows(), categories)


def _draw(source: Path, maps: Path, variant: str) -> Arrays:
    """Write the label maps of all images to `maps`; returns the index and where each map begins."""
    annotations = read_annotations(source)
    images = annotations.images
    labels: list[ImageLabels] = []
    starts = [0]

    def write(file: IO[bytes]) -> None:
        shown = time.monotonic()
        for image in images:
            labels_HW = _labels(image, source, variant)
            labels.append(ImageLabels.of(labels_HW))
            starts.append(starts[-1] + file.write(zlib.compress(labels_HW.tobytes(), _COMPRESSION)))
            if time.monotonic() - shown > _PROGRESS_EVERY_S:
                shown = time.monotonic()
                logger.info("%d of %d label maps drawn", len(labels), len(images))

    write_atomic(maps, write)
    index = ClassIndex.build([image.name for image in images], labels)
    # Pairs: the keys of a JSON object are texts.
    categories = json.dumps([*annotations.categories.items()]).encode("utf-8")
    return {
        **index.to_arrays(),
        "starts": np.array(starts, np.int64),
        "categories": np.frombuffer(categories, np.uint8),
    }


def _labels(image: CocoImage, source: Path, variant: str) -> Bytes:
    try:
        return rasterise(image.height, image.width, image.objects, variant)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{source}: the objects of {image.name} cannot be drawn ({error}): unpack "
            "annotations_trainval2014.zip again"
        ) from error


def _check_apart(parts: Mapping[str, _Part]) -> None:
    shared = parts["train"].rows.keys() & parts["val"].rows.keys()
    if shared:
        raise DataError(
            f"{examples(shared)} images are both in the train and in the val annotations: unpack "
            "annotations_trainval2014.zip again"
        )
