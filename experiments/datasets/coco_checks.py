"""What an annotation file of COCO may say of sizes and regions.

pycocotools draws whatever it is given: one NaN or 1e30 among the coordinates takes all memory, and
run lengths that are too long are written past the end of the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LONGEST_SIDE = 65_500
"""Pixels; no JPEG has more."""

_NO_LIST = "a polygon that is no list of numbers"


def size_problem(height: object, width: object) -> str:
    """What is wrong with the size of an image in pixels; empty where nothing is."""
    for name, side in (("height", height), ("width", width)):
        if not _is_side(side):
            return f"the {name} {side!r}, not 1 to {LONGEST_SIDE} pixels"
    return ""


def _is_side(side: object) -> bool:
    if isinstance(side, bool) or not isinstance(side, int | float):
        return False
    return 1 <= side <= LONGEST_SIDE and side == int(side)


def region_problem(segmentation: object, height: int, width: int) -> str:
    """What is wrong with an object's polygons or run-length encoding; empty where nothing is.

    An encoding of another size than the image's is left to who draws it.
    """
    if isinstance(segmentation, Mapping):
        is_ours = segmentation.get("size") == [height, width]
        return _runs_problem(segmentation.get("counts"), height * width) if is_ours else ""
    if not isinstance(segmentation, list):
        return "a segmentation that is neither polygons nor a run-length encoding"
    problems = (_polygon_problem(polygon, height, width) for polygon in segmentation)
    return next(filter(None, problems), "")


def _polygon_problem(polygon: object, height: int, width: int) -> str:
    if not isinstance(polygon, list):
        return _NO_LIST
    if len(polygon) % 2:
        return f"a polygon of {len(polygon)} coordinates, which are no pairs"
    try:
        points = np.array(polygon, np.float64).reshape(-1, 2)
    except (ValueError, TypeError):
        return _NO_LIST
    sides = np.array([width, height])
    # Annotators go over an image's edge by a pixel or two, never by its whole size. NaN is in no
    # range, so it is asked what is inside.
    inside = (points >= -sides) & (points <= 2 * sides)
    if inside.all():
        return ""
    return f"the coordinate {points[~inside][0]:g}, far outside of its {width}x{height} pixels"


def _runs_problem(counts: object, num_pixels: int) -> str:
    try:
        runs = _unpacked(counts) if isinstance(counts, str | bytes) else counts
        total = _total(runs)
    except (ValueError, TypeError, IndexError):
        return "a run-length encoding that cannot be read"
    if total != num_pixels:
        return f"a run-length encoding of {total} pixels for an image of {num_pixels}"
    return ""


def _total(runs: Any) -> int:  # noqa: ANN401
    """The sum of whole numbers, none below 0; else ValueError."""
    if not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError
    return sum(runs)


def _unpacked(text: str | bytes) -> Sequence[int]:
    """Run lengths of COCO's packed text: 5 bits a letter, differences from the last but one."""
    letters = [letter - 48 for letter in (text.encode() if isinstance(text, str) else text)]
    if any(not 0 <= letter < 64 for letter in letters):
        raise ValueError
    runs: list[int] = []
    place = 0
    while place < len(letters):
        value = shift = 0
        while True:
            letter = letters[place]
            place += 1
            value |= (letter & 0x1F) << shift
            shift += 5
            if not letter & 0x20:
                break
        if letter & 0x10:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
