"""How a photograph is brought to another size: as the line of code that a protocol follows does."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image

from experiments.datasets.labels import Bytes

Resampling = Literal["opencv", "pillow"]
"""Bilinear of OpenCV, which mixes the four pixels around a point, or of Pillow, which averages over
an area where the image gets smaller. PFENet, BAM and HDMNet take the first, HSNet the second."""


def resize_photograph(image_HW3: Bytes, size_hw: tuple[int, int], resampling: Resampling) -> Bytes:
    """RGB uint8 at the size `size_hw`."""
    size_wh = (size_hw[1], size_hw[0])
    if resampling == "pillow":
        resized = Image.fromarray(image_HW3).resize(size_wh, Image.Resampling.BILINEAR)
        return np.asarray(resized)
    import cv2

    # In a loader process, threads of OpenCV would take cores of other loaders.
    cv2.setNumThreads(1)
    found: Bytes = cv2.resize(image_HW3, size_wh, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    return found


def resize_labels(labels_HW: Bytes, size_hw: tuple[int, int]) -> Bytes:
    """Labels uint8 HW at the size `size_hw`: of each pixel's centre the nearest one."""
    size_wh = (size_hw[1], size_hw[0])
    return np.asarray(Image.fromarray(labels_HW).resize(size_wh, Image.Resampling.NEAREST))
