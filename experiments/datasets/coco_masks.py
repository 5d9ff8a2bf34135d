"""COCO's objects as one label map per image, in two variants.

`exact`  every polygon of every object. Where objects overlap, the smaller one is on top, so that a
         cup on a table stays a cup. A crowd region is labelled with its class, below all objects:
         its pixels show the class, and leaving it out would call them background.
`field`  what the field's published label maps are: crowds are skipped, every polygon of an object
         is filled by OpenCV on whole coordinates, and later objects overwrite earlier ones. This
         explains the field's published lists of (image, class) pairs without exception.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle_tools

from experiments.datasets.labels import Bytes

Rle = dict[str, Any]
"""pycocotools' run-length encoding: size [height, width] and counts."""

# A polygon is x, y, x, y, ...; pycocotools would take one of two points for a box.
_MIN_POLYGON_NUMBERS = 6


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation: its class id 1..80 and its polygons or run-length encoding as published."""

    class_id: int
    is_crowd: bool
    segmentation: list[list[float]] | Rle


def rasterise(height: int, width: int, objects: Sequence[CocoObject], variant: str) -> Bytes:
    """Label map uint8 HW of the objects, given in the order of the annotation file.

    ValueError where a run-length encoding is not of the image's size.
    """
    if variant == "field":
        return _fill(height, width, objects)
    labels_HW = np.zeros((height, width), np.uint8)
    with warnings.catch_warnings():
        # pycocotools' arrays do not know numpy 2's `copy` keyword; numpy copes, but warns.
        warnings.filterwarnings("ignore", "__array__", DeprecationWarning)
        for class_id, rle in _back_to_front(height, width, objects):
            left, top, box_width, box_height = (int(side) for side in rle_tools.toBbox(rle))
            box = (slice(top, top + box_height), slice(left, left + box_width))
            labels_HW[box][rle_tools.decode(rle)[box].view(np.bool_)] = class_id
    return labels_HW


def _fill(height: int, width: int, objects: Sequence[CocoObject]) -> Bytes:
    import cv2

    labels_HW = np.zeros((height, width), np.uint8)
    for found in objects:
        if found.is_crowd:
            continue
        if isinstance(found.segmentation, dict):
            rle = _sized(found.segmentation, height, width)
            labels_HW[rle_tools.decode(rle).view(np.bool_)] = found.class_id
            continue
        for polygon in found.segmentation:
            # Truncated, not rounded: so the field's label maps were made.
            corners_N2 = np.array(polygon).reshape(-1, 2).astype(np.int32)
            cv2.fillPoly(labels_HW, [corners_N2], found.class_id)
    return labels_HW


def _back_to_front(height: int, width: int, objects: Sequence[CocoObject]) -> list[tuple[int, Rle]]:
    drawn = [(o, _rle(height, width, o)) for o in objects]
    layers = [
        (not o.is_crowd, -int(rle_tools.area(rle)), o.class_id, rle)
        for o, rle in drawn
        if rle is not None
    ]
    # By crowd, size and class alone: equal objects keep the file's order.
    layers.sort(key=lambda layer: layer[:3])
    return [(class_id, rle) for _, _, class_id, rle in layers]


def _rle(height: int, width: int, found: CocoObject) -> Rle | None:
    """The object's region, or None where no polygon has an inside."""
    if isinstance(found.segmentation, dict):
        return _sized(found.segmentation, height, width)
    polygons = [each for each in found.segmentation if len(each) >= _MIN_POLYGON_NUMBERS]
    if not polygons:
        return None
    rle: Rle = rle_tools.merge(rle_tools.frPyObjects(polygons, height, width))
    return rle


def _sized(rle: Rle, height: int, width: int) -> Rle:
    if list(rle["size"]) != [height, width]:
        raise ValueError(f"a run-length encoding of size {rle['size']}, not [{height}, {width}]")
    if isinstance(rle["counts"], list):
        packed: Rle = rle_tools.frPyObjects(rle, height, width)
        return packed
    return rle
