"""COCO's average precision, computed by pycocotools over all images at once."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.coco_boxes import BoxAnnotations, BoxImage

Record = dict[str, Any]
"""An annotation or a detection as COCO's files have it."""

_ALL_AREAS, _100_DETECTIONS = 0, 2
"""Places in the last two axes of COCOeval's precision."""


@dataclass(frozen=True, slots=True)
class AveragePrecision:
    """COCO's summary, as fractions; NaN where there is no object to find."""

    map: float
    map_50: float
    map_75: float
    recall_100: float
    by_category: Mapping[int, float]
    """AP of each category that has an object."""


def average_precision(
    truth: Mapping[str, Any], detections: Iterable[Record], kind: Literal["bbox", "segm"] = "bbox"
) -> AveragePrecision:
    """COCO's AP of `detections` against `truth`, an annotation file's content.

    A detection has image_id, category_id, score, and bbox or segmentation. The order of the
    detections of one image matters only among equal scores; that of the images never does.
    """
    from pycocotools.cocoeval import COCOeval

    # pycocotools prints its progress, and its arrays do not know numpy 2's `copy` keyword.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__", DeprecationWarning)
        # loadRes of pycocotools fails on an empty list, which an untrained model returns.
        found = [_detection(n, each, kind) for n, each in enumerate(detections, start=1)]
        scoring = COCOeval(_index(truth), _index({**truth, "annotations": found}), kind)
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    stats = [float("nan") if value < 0 else float(value) for value in scoring.stats]
    by_category = _by_category(scoring.eval["precision"], scoring.params.catIds)
    return AveragePrecision(stats[0], stats[1], stats[2], stats[8], by_category)


def as_coco(annotations: BoxAnnotations) -> Record:
    """The annotations in the form of COCO's files, images numbered from 1 in their order."""
    return {
        "images": [
            {"id": number, "height": image.height, "width": image.width}
            for number, image in enumerate(annotations.images, start=1)
        ],
        "annotations": _objects(annotations.images),
        "categories": [{"id": key, "name": name} for key, name in annotations.categories.items()],
    }


def _objects(images: Sequence[BoxImage]) -> list[Record]:
    numbered = [(n, found) for n, image in enumerate(images, start=1) for found in image.objects]
    return [
        {
            "id": place,
            "image_id": number,
            "category_id": found.category_id,
            "bbox": list(found.box),
            "area": found.area,
            "iscrowd": int(found.is_crowd),
        }
        for place, (number, found) in enumerate(numbered, start=1)
    ]


def _index(content: Mapping[str, Any]) -> Any:  # noqa: ANN401
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = dict(content)
    coco.createIndex()
    return coco


def _detection(number: int, found: Record, kind: str) -> Record:
    from pycocotools import mask as rle_tools

    if kind == "bbox":
        area = found["bbox"][2] * found["bbox"][3]
    else:
        area = float(rle_tools.area(found["segmentation"]))
    return {**found, "id": number, "area": area, "iscrowd": 0}


def _by_category(precision: NDArray[np.float64], categories: Sequence[int]) -> dict[int, float]:
    """Means of precision[IoU, recall, category, area, detections], -1 where there is no object."""
    all_TRK = precision[:, :, :, _ALL_AREAS, _100_DETECTIONS]
    has_objects = all_TRK.min((0, 1)) > -1
    return {
        int(category): float(all_TRK[:, :, place].mean())
        for place, category in enumerate(categories)
        if has_objects[place]
    }
