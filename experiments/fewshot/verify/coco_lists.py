"""Whether HSNet's lists of COCO-20i agree with the label maps that they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.datasets.coco_annotations import NUM_CLASSES, CocoImage
from experiments.datasets.coco_masks import rasterise
from experiments.datasets.layouts import examples
from experiments.datasets.pair_lists import Pair, read_coco_pair_lists
from experiments.datasets.verify.findings import Findings
from experiments.datasets.verify.images import each
from experiments.fewshot.episodes.protocols import default_min_area_px
from experiments.fewshot.episodes.source import interleaved_folds
from merge.errors import DataError

_FOLDS = interleaved_folds(NUM_CLASSES)


def verify_coco_lists(
    folder: Path, images: Mapping[str, Sequence[CocoImage]], findings: Findings
) -> None:
    """Add to `findings` each list whose pairs are not those of the `field` label maps.

    A list names an image for every class with at least 2,048 pixels in it.
    """
    for split, of_split in images.items():
        large = _large_pairs(split, of_split)
        for fold, novel in enumerate(_FOLDS):
            try:
                pairs = set(read_coco_pair_lists(folder, split, fold, _FOLDS))
            except DataError as error:
                findings.wrong("list", str(error))
                continue
            # A fold tests its own classes and trains on all others.
            expected = {pair for pair in large if (pair[1] in novel) is (split == "val")}
            _compare(f"{folder} for {split}, fold {fold}", pairs, expected, findings)


def _large_pairs(split: str, images: Sequence[CocoImage]) -> set[Pair]:
    limit = default_min_area_px("coco20i", "hsnet")

    def look(image: CocoImage) -> list[Pair]:
        labels_HW = rasterise(image.height, image.width, image.objects, "field")
        areas = np.bincount(labels_HW.ravel(), minlength=NUM_CLASSES + 1)[1:]
        return [(image.name, int(c)) for c in np.flatnonzero(areas >= limit) + 1]

    found = each(f"label maps for the lists of {split}", look, list(images))
    return {pair for pairs in found for pair in pairs}


def _compare(place: str, listed: set[Pair], expected: set[Pair], findings: Findings) -> None:
    for what, pairs in (("lists", listed - expected), ("lacks", expected - listed)):
        if pairs:
            named = examples([f"{name}__{class_id:02d}" for name, class_id in pairs])
            findings.wrong("list", f"{place} {what} {named} pairs against the label maps")
