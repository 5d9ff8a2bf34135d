"""VOC's 20 classes and background, as label maps drawn from COCO's objects.

The rule is that of torchvision's COCO-trained segmentation models: a pixel of two objects, of
whatever class, is ignored; crowds are drawn as all else; other categories are background.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from pycocotools import mask as rle_tools

from experiments.datasets.coco_boxes import BoxImage, BoxObject
from experiments.datasets.labels import IGNORE, Bytes

NUM_CLASSES = 21

# A polygon is x, y, x, y, ...; pycocotools would take one of two points for a box.
_MIN_POLYGON_NUMBERS = 6

_CATEGORIES = (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72)
CLASS_OF = {category: class_id for class_id, category in enumerate(_CATEGORIES, start=1)}
"""VOC's class id of a COCO category."""


def draw_labels(image: BoxImage) -> Bytes:
    """Labels uint8 HW: 0 background, 1..20 VOC's classes, 255 where objects overlap."""
    labels_HW = np.zeros((image.height, image.width), np.uint8)
    covered_HW = np.zeros(labels_HW.shape, np.uint8)
    for found in _of_classes(image):
        mask_HW = _mask(found, image.height, image.width)
        np.maximum(labels_HW, mask_HW * np.uint8(CLASS_OF[found.category_id]), out=labels_HW)
        # Saturated: an image of more than 255 objects over one pixel must not wrap round.
        covered_HW = np.minimum(covered_HW, 1) + mask_HW
    labels_HW[covered_HW > 1] = IGNORE
    return labels_HW


def area_of_classes(image: BoxImage) -> float:
    """Pixels of the objects of VOC's classes, as the annotations state them."""
    return sum(found.area for found in _of_classes(image))


def _of_classes(image: BoxImage) -> list[BoxObject]:
    return [o for o in image.objects if o.category_id in CLASS_OF and o.region is not None]


def _mask(found: BoxObject, height: int, width: int) -> Bytes:
    region: Any = found.region
    with warnings.catch_warnings():
        # pycocotools' arrays do not know numpy 2's `copy` keyword; numpy copes, but warns.
        warnings.filterwarnings("ignore", "__array__", DeprecationWarning)
        if isinstance(region, list):
            polygons = [each for each in region if len(each) >= _MIN_POLYGON_NUMBERS]
            rles = rle_tools.frPyObjects(polygons, height, width) if polygons else []
        else:
            is_packed = isinstance(region["counts"], str | bytes)
            rles = [region if is_packed else rle_tools.frPyObjects(region, height, width)]
        if not rles:
            return np.zeros((height, width), np.uint8)
        mask: Bytes = rle_tools.decode(rle_tools.merge(rles))
    return mask
