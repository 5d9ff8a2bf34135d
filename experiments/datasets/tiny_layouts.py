"""Small generated data sets in the layouts of VOC2012, COCO 2017 and ImageNet, made on first use.

Each picture shows one or two textured shapes of three classes; all three layouts hold the same
pictures. A model of a few thousand weights learns them within a minute on a CPU.

    tiny-<version>/VOC2012/{JPEGImages,SegmentationClass,Annotations,ImageSets}/
    tiny-<version>/COCO2017/{train2017,val2017,annotations}/
    tiny-<version>/folders/{train,val}/<class>/
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image
from pycocotools import mask as rle_tools

from experiments.datasets.labels import Bytes
from experiments.datasets.scenes import Look, draw_scene
from experiments.datasets.shapes import voc_palette
from experiments.datasets.voc_boxes import VOC_NAMES
from experiments.runtime.seeds import numpy_generator
from merge.storage.atomic import fsync_folder, fsync_tree, storage_errors

VERSION = 1
"""Raised with every change of what is drawn."""

LOOKS = {
    1: Look("disc", "striped", 0.0),
    2: Look("square", "plain", 0.33),
    3: Look("star", "dotted", 0.62),
}
"""By class id of VOC: pictures of what is called an aeroplane, a bicycle and a bird there."""
_COCO_CATEGORIES = {1: (5, "airplane"), 2: (2, "bicycle"), 3: (16, "bird")}
"""The same classes by COCO's ids and names."""

_NUM_SCENES = {"train": 60, "val": 31}  # no number of ranks divides 31
_SIDE_PX = 72  # of the longer side
_ROOT_SEED = 11


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


def ensure_tiny(folder: Path) -> Path:
    """The data sets' root below `folder`, made there first where it is absent (a second or two).

    Built aside under a lock and renamed into place, so a reader never sees a part of it.
    """
    root = folder / f"tiny-{VERSION}"
    if root.is_dir():
        return root
    with storage_errors(root):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{root.name}.lock"):
            if not root.is_dir():
                _build(root)
    return root


def _build(root: Path) -> None:
    unfinished = root.with_name(f".{root.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for split in _NUM_SCENES:
        scenes = list(_scenes(split))
        _write_voc(unfinished / "VOC2012", split, scenes)
        _write_coco(unfinished / "COCO2017", split, scenes)
        _write_folders(unfinished / "folders" / split, scenes)
    fsync_tree(unfinished)
    unfinished.rename(root)
    fsync_folder(root.parent)


def _scenes(split: str) -> Iterator[_Scene]:
    for number in range(_NUM_SCENES[split]):
        rng = numpy_generator(_ROOT_SEED, "tiny", VERSION, split, number)
        # Each class is in a third of the pictures, and alone in the larger half of them.
        first = number % len(LOOKS) + 1
        shown = [first] if number % 2 else [first, first % len(LOOKS) + 1]
        yield _drawn(f"{split}_{number:03d}", shown, rng)


def _drawn(name: str, shown: list[int], rng: np.random.Generator) -> _Scene:
    image_HW3, labels_HW = draw_scene({c: LOOKS[c] for c in shown}, rng)
    factor = _SIDE_PX / max(labels_HW.shape)
    size = tuple(round(side * factor) for side in reversed(labels_HW.shape))
    image = Image.fromarray(image_HW3).resize(size, Image.Resampling.BOX)
    labels = Image.fromarray(labels_HW).resize(size, Image.Resampling.NEAREST)
    return _Scene(name, np.array(image), np.array(labels))


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
    for scene in scenes:
        _save(scene, root / f"{split}2017")
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


def _write_folders(root: Path, scenes: list[_Scene]) -> None:
    """Pictures of one object, in the folder of its class."""
    for scene in scenes:
        if len(scene.class_ids) == 1:
            _save(scene, root / VOC_NAMES[scene.class_ids[0]])


def _save(scene: _Scene, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    photograph = Image.fromarray(scene.image)
    photograph.save(folder / f"{scene.name}.jpg", quality=92, subsampling=0)
