"""The embedded data set shapes3: three classes of shapes, as VOC2012 and as COCO 2017.

Made on first use. Both layouts hold the same pictures; each shows one or two objects. A model of a
few thousand weights learns them within a minute on a CPU.

    shapes3-<version>/VOC2012/{JPEGImages,SegmentationClass,Annotations,ImageSets}/
    shapes3-<version>/COCO2017/{train2017,val2017,annotations}/
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.datasets.generated import ensure_generated
from experiments.datasets.labels import Bytes
from experiments.datasets.scenes import Look, draw_scene
from experiments.datasets.shapes import voc_palette
from experiments.datasets.voc_boxes import VOC_NAMES
from experiments.runtime.seeds import numpy_generator

VERSION = 1
"""Raised with every change of what is drawn, so that two generators never share a folder."""

LOOKS = {
    1: Look("disc", "striped", 0.0),
    2: Look("square", "plain", 0.33),
    3: Look("star", "dotted", 0.62),
}
"""By class id of VOC: what is called an aeroplane, a bicycle and a bird there."""
_COCO_CATEGORIES = {1: (5, "airplane"), 2: (2, "bicycle"), 3: (16, "bird")}
"""The same classes by COCO's ids and names."""

NUM_IMAGES = {"train": 60, "val": 31}
"""No usual number of ranks divides 31."""

_ROOT_SEED = 23
_SIDE_RANGE_PX = (60, 77)
_AREA_RANGE_PX = (350.0, 750.0)


@dataclass(frozen=True, slots=True)
class _Scene:
    name: str
    image: Bytes
    """RGB HW3"""
    labels: Bytes
    """HW"""

    @property
    def class_ids(self) -> list[int]:
        return [c for c in LOOKS if (self.labels == c).any()]

    def mask(self, class_id: int) -> Bytes:
        mask: Bytes = (self.labels == class_id).astype(np.uint8)
        return mask

    def box(self, class_id: int) -> tuple[int, int, int, int]:
        """First column and row, and those after the last."""
        rows, columns = (np.flatnonzero(self.mask(class_id).any(axis)) for axis in (1, 0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def ensure_shapes3(folder: Path) -> Path:
    """The root of both layouts below `folder`, made there first where it is absent (a second).

    StorageError where the file system refuses.
    """
    return ensure_generated(folder / f"shapes3-{VERSION}", _write)


def _write(root: Path) -> None:
    for split, number in NUM_IMAGES.items():
        scenes = [_draw(split, place) for place in range(number)]
        _write_voc(root / "VOC2012", split, scenes)
        _write_coco(root / "COCO2017", split, scenes)


def _draw(split: str, place: int) -> _Scene:
    rng = numpy_generator(_ROOT_SEED, "shapes3", VERSION, split, place)
    # Every second picture has one object, the others two; the classes take turns.
    first = place % len(LOOKS) + 1
    shown = [first] if place % 2 else [first, first % len(LOOKS) + 1]
    image_HW3, labels_HW = draw_scene(
        {c: LOOKS[c] for c in shown},
        rng,
        side_range_px=_SIDE_RANGE_PX,
        area_range_px=_AREA_RANGE_PX,
    )
    return _Scene(f"{split}_{place:03d}", image_HW3, labels_HW)


def _write_voc(root: Path, split: str, scenes: list[_Scene]) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        _save(scene, root / "JPEGImages")
        mask = Image.fromarray(scene.labels)
        mask.putpalette(voc_palette())
        mask.save(root / "SegmentationClass" / f"{scene.name}.png")
        (root / "Annotations" / f"{scene.name}.xml").write_text(_voc_xml(scene), encoding="utf-8")
    names = "".join(f"{scene.name}\n" for scene in scenes)
    for kind in ("Segmentation", "Main"):
        lists = root / "ImageSets" / kind
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text(names, encoding="utf-8")


def _voc_xml(scene: _Scene) -> str:
    height, width = scene.labels.shape
    objects = "".join(
        f"<object><name>{VOC_NAMES[c]}</name><difficult>0</difficult><bndbox><xmin>{x0 + 1}</xmin>"
        f"<ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for c in scene.class_ids
        for x0, y0, x1, y1 in [scene.box(c)]
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{scene.name}.jpg</filename>{size}{objects}</annotation>\n"


def _write_coco(root: Path, split: str, scenes: list[_Scene]) -> None:
    photographs = root / f"{split}2017"
    photographs.mkdir(parents=True)
    for scene in scenes:
        _save(scene, photographs)
    record = {
        "images": [
            {"id": number, "file_name": f"{s.name}.jpg", "height": h, "width": w}
            for number, s in enumerate(scenes, start=1)
            for h, w in [s.labels.shape]
        ],
        "annotations": _coco_objects(scenes),
        "categories": [{"id": c, "name": name} for c, name in sorted(_COCO_CATEGORIES.values())],
    }
    (root / "annotations").mkdir(exist_ok=True)
    path = root / "annotations" / f"instances_{split}2017.json"
    path.write_text(json.dumps(record), encoding="utf-8")


def _coco_objects(scenes: list[_Scene]) -> list[dict[str, Any]]:
    from pycocotools import mask as rle_tools

    objects: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes, start=1):
        for class_id in scene.class_ids:
            rle = rle_tools.encode(np.asfortranarray(scene.mask(class_id)))
            x0, y0, x1, y1 = scene.box(class_id)
            entry = {
                "id": len(objects) + 1,
                "image_id": number,
                "category_id": _COCO_CATEGORIES[class_id][0],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(rle_tools.area(rle)),
                "iscrowd": 0,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
            }
            objects.append(entry)
    return objects


def _save(scene: _Scene, folder: Path) -> None:
    photograph = Image.fromarray(scene.image)
    photograph.save(folder / f"{scene.name}.jpg", quality=92, subsampling=0)
