"""Small data sets on disk, in the layouts of VOC and COCO2014, with real PNG, JPEG and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PASCAL_TRAIN, PASCAL_SBD, PASCAL_VAL = "2007_000001", "2008_000002", "2007_000003"
PASCAL_SBD_VAL = "2009_000004"
"""Labelled by SBD, in no list: part of train_all alone."""

COCO_CATEGORIES = (*range(2, 160, 2), 1536)
"""80 ids with gaps, as COCO's: 2 is class 1, 1536 is class 80 (and the first in a set's order)."""


def save_label_map(path: Path, labels: np.ndarray) -> None:
    """An 8-bit palette PNG whose colours are not its values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8), mode=None)
    image.putpalette([(37 * index + 5) % 256 for index in range(768)])
    image.save(path)


def save_photograph(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def stripes(areas: Mapping[int, int], height: int = 64, width: int = 96) -> np.ndarray:
    """A label map that holds each label with exactly so many pixels."""
    values = np.repeat(list(areas), list(areas.values()))
    labels = np.zeros(height * width, np.uint8)
    labels[: values.size] = values
    return labels.reshape(height, width)


def add_voc_image(root: Path, name: str, labels: np.ndarray) -> None:
    save_label_map(root / "SegmentationClassAug" / f"{name}.png", labels)
    save_photograph(root / "JPEGImages" / f"{name}.jpg", *labels.shape)


def write_list(path: Path, names: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def make_pascal(root: Path, sbd_list: str = "ImageSets/Segmentation/train_noval.txt") -> Path:
    """A VOC2012 of four images with SBD's label maps; class k fills 2,000 + k pixels of image k."""
    for k, name in enumerate((PASCAL_TRAIN, PASCAL_SBD, PASCAL_VAL, PASCAL_SBD_VAL), start=1):
        add_voc_image(root, name, stripes({k: 2000 + k, 255: 100}))
    write_list(root / "ImageSets/Segmentation/train.txt", [PASCAL_TRAIN])
    write_list(root / "ImageSets/Segmentation/val.txt", [PASCAL_VAL])
    write_list(root / sbd_list, [PASCAL_SBD, PASCAL_TRAIN])
    return root


def box(left: int, top: int, right: int, bottom: int) -> list[float]:
    """A polygon that fills columns left..right-1 of rows top..bottom-1."""
    return [float(v) for v in (left, top, right, top, right, bottom, left, bottom)]


def annotation(image_id: int, category: int, *polygons: list[float], **more: Any) -> dict[str, Any]:
    entry = {"image_id": image_id, "category_id": category, "segmentation": list(polygons)}
    return {"id": 100 * image_id + category, "iscrowd": 0, **entry, **more}


def coco_record(
    images: Mapping[int, str], annotations: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of an instances_*.json; every image is 40 pixels high and 60 wide."""
    return {
        "images": [
            {"id": i, "file_name": name, "height": 40, "width": 60} for i, name in images.items()
        ],
        "annotations": list(annotations),
        "categories": [{"id": category} for category in reversed(COCO_CATEGORIES)],
    }


def make_coco(root: Path, photographs: str = ".") -> Path:
    """A COCO2014 of two images for training and one for testing."""
    names = {
        "train": {1: "COCO_train2014_000000000001.jpg", 2: "COCO_train2014_000000000002.jpg"},
        "val": {3: "COCO_val2014_000000000003.jpg"},
    }
    found = {
        "train": [annotation(2, 4, box(0, 0, 10, 10)), annotation(1, 2, box(0, 0, 50, 40))],
        "val": [annotation(3, 1536, box(5, 5, 15, 25), box(20, 5, 30, 25))],
    }
    for split, images in names.items():
        path = root / "annotations" / f"instances_{split}2014.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(coco_record(images, found[split])))
        for name in images.values():
            save_photograph(root / photographs / f"{split}2014" / name, 40, 60)
    return root


def files_below(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything below `root`."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
    }
