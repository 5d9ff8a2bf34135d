"""An annotation file of COCO, read into images with their objects."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from experiments.datasets.coco_checks import region_problem, size_problem
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


@dataclass(frozen=True, slots=True)
class CocoAnnotations:
    """An annotation file."""

    images: list[CocoImage]
    """Sorted by name."""
    categories: Mapping[int, str]
    """Names by COCO's own ids, sorted."""


def read_annotations(path: Path) -> CocoAnnotations:
    """What `path` holds; an image's objects in the file's order.

    Class ids are 1..80 by sorted category id. DataError names what is wrong with the file.
    """
    logger.info("reading %s", path)
    record = _read_record(path)
    try:
        categories = _categories(record, path)
        return CocoAnnotations(_images(record, categories, path), categories)
    except KeyError as error:
        raise DataError(
            f"{path} lacks {error}: it is no instances_*.json of COCO2014, or is damaged; unpack "
            "annotations_trainval2014.zip again"
        ) from error
    except (TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no instances_*.json of COCO2014, or is damaged ({error}): unpack "
            "annotations_trainval2014.zip again"
        ) from error


def check_same_categories(files: Mapping[Path, Mapping[int, str]]) -> None:
    """DataError where two annotation files do not name the same categories.

    Class ids follow from the categories of each file: with others a class would be tested as
    another than it was trained.
    """
    (first, known), *others = files.items()
    for path, found in others:
        differing = sorted(
            category
            for category in known.keys() | found.keys()
            if known.get(category) != found.get(category)
        )
        if differing:
            category = differing[0]
            raise DataError(
                f"{path} names other categories than {first}: category {category} is "
                f"{_named(found, category)} there and {_named(known, category)} here; use the "
                "instances_*.json of COCO2014 unchanged"
            )


def _named(categories: Mapping[int, str], category: int) -> str:
    return repr(categories[category]) if category in categories else "missing"


def _read_record(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): unpack annotations_trainval2014.zip again"
        ) from error
    if not isinstance(record, dict):
        raise DataError(f"{path} holds no JSON object: it is no instances_*.json of COCO2014")
    return record


def _images(
    record: Mapping[str, Any], categories: Mapping[int, str], path: Path
) -> list[CocoImage]:
    entries = record["images"]
    if not entries:
        raise DataError(f"{path} lists no image: unpack annotations_trainval2014.zip again")
    sizes = _sizes(entries, path)
    objects = _objects_by_image(record, categories, sizes, path)
    images = [_image(entry, objects.get(entry["id"], ()), path) for entry in entries]
    images.sort(key=lambda image: image.name)
    _check_distinct((image.name for image in images), path)
    return images


def _sizes(entries: Iterable[Mapping[str, Any]], path: Path) -> dict[int, tuple[int, int]]:
    """Height and width by image id."""
    sizes: dict[int, tuple[int, int]] = {}
    for entry in entries:
        image = entry["id"]
        if image in sizes:
            raise DataError(f"{path} lists the image {image} twice: unpack it again")
        if problem := size_problem(entry["height"], entry["width"]):
            raise DataError(f"{path}: the image {image} has {problem}: unpack it again")
        sizes[image] = (int(entry["height"]), int(entry["width"]))
    return sizes


def _image(entry: Mapping[str, Any], objects: Iterable[CocoObject], path: Path) -> CocoImage:
    # The file's own folder, where it names one, is not ours: only the last part counts.
    file = PurePosixPath(entry["file_name"])
    if file.suffix != ".jpg":
        raise DataError(f"{path} lists {file}, which is no .jpg: it is no file of COCO2014")
    return CocoImage(file.stem, int(entry["height"]), int(entry["width"]), tuple(objects))


def _objects_by_image(
    record: Mapping[str, Any],
    categories: Mapping[int, str],
    sizes: Mapping[int, tuple[int, int]],
    path: Path,
) -> dict[int, list[CocoObject]]:
    # COCO's own ids run from 1 to 90 and have gaps; folds count its 80 classes without them.
    class_ids = {category: class_id for class_id, category in enumerate(categories, start=1)}
    objects: dict[int, list[CocoObject]] = {}
    for entry in record["annotations"]:
        _check_annotation(entry, class_ids, sizes, path)
        found = CocoObject(
            class_ids[entry["category_id"]], bool(entry["iscrowd"]), entry["segmentation"]
        )
        objects.setdefault(entry["image_id"], []).append(found)
    return objects


def _check_annotation(
    entry: Mapping[str, Any],
    class_ids: Mapping[int, int],
    sizes: Mapping[int, tuple[int, int]],
    path: Path,
) -> None:
    """DataError where the annotation cannot be drawn as what it says."""
    place = f"annotation {entry.get('id')}"
    if entry["category_id"] not in class_ids:
        raise DataError(
            f"{path}: {place} has the category {entry['category_id']}, which the file does not "
            "list: unpack annotations_trainval2014.zip again"
        )
    image = entry["image_id"]
    if image not in sizes:
        raise DataError(
            f"{path} annotates the image {image}, which it does not list ({place}): unpack "
            "annotations_trainval2014.zip again"
        )
    if problem := region_problem(entry["segmentation"], *sizes[image]):
        raise DataError(
            f"{path}: {place} of the image {image} has {problem}: unpack "
            "annotations_trainval2014.zip again, or correct that annotation"
        )


def _categories(record: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Names by id, sorted by id; a file without names has empty ones."""
    found = {entry["id"]: str(entry.get("name", "")) for entry in record["categories"]}
    if len(found) != NUM_CLASSES or len(record["categories"]) != NUM_CLASSES:
        raise DataError(
            f"{path} has {len(record['categories'])} categories, COCO-20i divides {NUM_CLASSES}: "
            "use the instances_*.json of COCO2014 unchanged"
        )
    return dict(sorted(found.items()))


def _check_distinct(names: Iterable[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path} lists {name}.jpg twice: unpack it from the data set again")
        seen.add(name)
