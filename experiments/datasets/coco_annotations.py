"""An annotation file of COCO, read into images with their objects."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from experiments.datasets.coco_masks import CocoObject
from merge.errors import DataError

logger = logging.getLogger(__name__)

NUM_CLASSES = 80


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One photograph: its file name without suffix, its size in pixels, and its objects."""

    name: str
    height: int
    width: int
    objects: tuple[CocoObject, ...]


def read_annotations(path: Path) -> list[CocoImage]:
    """All images of `path`, sorted by name; objects in the file's order.

    Class ids are 1..80 by sorted category id. DataError names what is wrong with the file.
    """
    logger.info("reading %s", path)
    record = _read_record(path)
    try:
        return _images(record, path)
    except KeyError as error:
        raise DataError(
            f"{path} lacks {error}: it is no instances_*.json of COCO2014, or is damaged; unpack "
            "annotations_trainval2014.zip again"
        ) from error


def _read_record(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): unpack annotations_trainval2014.zip again"
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{path} holds no JSON object: it is no instances_*.json of COCO2014")
    return record


def _images(record: Mapping[str, Any], path: Path) -> list[CocoImage]:
    entries = record["images"]
    if not entries:
        raise DataError(f"{path} lists no image: unpack annotations_trainval2014.zip again")
    objects = _objects_by_image(record, path)
    unknown = objects.keys() - {entry["id"] for entry in entries}
    if unknown:
        raise DataError(
            f"{path} annotates the image {min(unknown)}, which it does not list: unpack "
            "annotations_trainval2014.zip again"
        )
    images = [_image(entry, objects.get(entry["id"], ()), path) for entry in entries]
    images.sort(key=lambda image: image.name)
    _check_distinct((image.name for image in images), path)
    return images


def _image(entry: Mapping[str, Any], objects: Iterable[CocoObject], path: Path) -> CocoImage:
    # The file's own folder, where it names one, is not ours: only the last part counts.
    file = PurePosixPath(entry["file_name"])
    if file.suffix != ".jpg":
        raise DataError(f"{path} lists {file}, which is no .jpg: it is no file of COCO2014")
    return CocoImage(file.stem, int(entry["height"]), int(entry["width"]), tuple(objects))


def _objects_by_image(record: Mapping[str, Any], path: Path) -> dict[int, list[CocoObject]]:
    class_ids = _class_ids(record, path)
    objects: dict[int, list[CocoObject]] = {}
    for entry in record["annotations"]:
        if entry["category_id"] not in class_ids:
            raise DataError(
                f"{path}: annotation {entry['id']} has the category {entry['category_id']}, which "
                "the file does not list: unpack annotations_trainval2014.zip again"
            )
        found = CocoObject(
            class_ids[entry["category_id"]], bool(entry["iscrowd"]), entry["segmentation"]
        )
        objects.setdefault(entry["image_id"], []).append(found)
    return objects


def _class_ids(record: Mapping[str, Any], path: Path) -> dict[int, int]:
    # COCO's own ids run from 1 to 90 and have gaps; folds count its 80 classes without them.
    categories = sorted({entry["id"] for entry in record["categories"]})
    if len(categories) != NUM_CLASSES:
        raise DataError(
            f"{path} has {len(categories)} categories, COCO-20i divides {NUM_CLASSES}: use the "
            "instances_*.json of COCO2014 unchanged"
        )
    return {category: class_id for class_id, category in enumerate(categories, start=1)}


def _check_distinct(names: Iterable[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path} lists {name}.jpg twice: unpack it from the data set again")
        seen.add(name)
