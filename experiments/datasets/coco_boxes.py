"""Annotation files in COCO's form, of any categories: images with boxes, areas and regions.

    annotations/instances_{train,val}<year>.json
    {train,val}<year>/*.jpg                          or images/{train,val}<year>/

A box is x, y, width, height in pixels of the photograph, as the file has it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.datasets.coco_checks import region_problem, size_problem
from experiments.datasets.layouts import coco_photographs
from merge.errors import DataError
from merge.storage.json_files import canonical_json

logger = logging.getLogger(__name__)

Split = Literal["train", "val"]
Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""

LARGEST_CATEGORY = 1000
"""A detector has one output for each number up to the largest category id."""

_ROOTS = (
    *(".", "COCO{year}", "coco{year}", "MSCOCO{year}", "mscoco{year}", "coco", "COCO", "mscoco"),
    *("MSCOCO", "coco20i", "coco/COCO{year}", "coco/MSCOCO{year}"),
)


@dataclass(frozen=True, slots=True)
class BoxObject:
    """One annotated object."""

    category_id: int
    box: Box
    area: float
    """Pixels of its region, as the file has it; of its box where there is no region."""
    is_crowd: bool
    """Whether the box is a region of many objects: neither trained, nor counted as missed."""
    region: list[list[float]] | dict[str, Any] | None = None
    """Polygons or a run-length encoding, as published."""


@dataclass(frozen=True, slots=True)
class BoxImage:
    """One photograph with its objects, in the order of the file."""

    image_id: int
    file: str
    height: int
    width: int
    objects: tuple[BoxObject, ...]


@dataclass(frozen=True, slots=True)
class BoxAnnotations:
    """The images of one split, sorted by id, and the names of all categories by their ids."""

    photographs: Path
    images: tuple[BoxImage, ...]
    categories: Mapping[int, str]

    @property
    def files(self) -> list[str]:
        """File names of the photographs."""
        return [image.file for image in self.images]

    def fingerprint(self) -> str:
        """A digest of images, objects and categories; no photograph is read."""
        content = [
            dict(sorted((str(key), name) for key, name in self.categories.items())),
            [[i.file, i.height, i.width, [_plain(o) for o in i.objects]] for i in self.images],
        ]
        return hashlib.sha256(canonical_json(content)).hexdigest()[:16]


def open_coco(
    data_root: Path, year: int, split: Split, *, has_regions: bool = True
) -> BoxAnnotations:
    """COCO of `year` below `data_root`. DataError names what is missing or wrong.

    Without `has_regions` objects have their boxes alone: each rank and each loader process has
    its own copy of all annotations, and polygons are most of them.
    """
    root = find_coco(data_root, year)
    photographs = coco_photographs(root, f"{split}{year}")
    if photographs is None:
        raise DataError(
            f"there is no folder {root / f'{split}{year}'} with photographs: unpack "
            f"{split}{year}.zip in {root}"
        )
    path = root / "annotations" / f"instances_{split}{year}.json"
    return read_boxes(path, photographs, has_regions=has_regions)


def find_coco(data_root: Path, year: int) -> Path:
    """The folder that holds `annotations/` of COCO `year`. DataError says what is accepted."""
    for place in _ROOTS:
        root = data_root / place.format(year=year)
        if (root / "annotations" / f"instances_val{year}.json").is_file():
            return root
    raise DataError(
        f"no COCO {year} below {data_root}: accepted is a folder, or COCO{year}/ in it, with "
        f"annotations/instances_{{train,val}}{year}.json, train{year}/ and val{year}/"
    )


def read_boxes(path: Path, photographs: Path, *, has_regions: bool = True) -> BoxAnnotations:
    """What an annotation file holds. DataError names what is wrong with it."""
    logger.info("reading %s", path)
    record = _read_record(path)
    try:
        categories = {int(c["id"]): str(c["name"]) for c in record["categories"]}
        _check_categories(categories, path)
        images = _images(record, categories, path, has_regions=has_regions)
    except KeyError as error:
        raise DataError(f"{path} lacks {error}: it is no instances_*.json of COCO") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path} is no instances_*.json of COCO ({error})") from error
    return BoxAnnotations(photographs, images, categories)


def _plain(found: BoxObject) -> list[Any]:
    return [found.category_id, list(found.box), found.area, found.is_crowd]


def _read_record(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read ({error}): restore it from the data set") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} holds no JSON object: it is no instances_*.json of COCO")
    return record


def _check_categories(categories: Mapping[int, str], path: Path) -> None:
    if not categories:
        raise DataError(f"{path} lists no category")
    wrong = [number for number in categories if not 0 < number <= LARGEST_CATEGORY]
    if wrong:
        raise DataError(
            f"{path} has the category id {wrong[0]}: number categories from 1 to at most "
            f"{LARGEST_CATEGORY}, since 0 is the background and a model has an output for each"
        )


def _images(
    record: Mapping[str, Any], categories: Mapping[int, str], path: Path, *, has_regions: bool
) -> tuple[BoxImage, ...]:
    sizes = _sizes(record["images"], path)
    objects: dict[int, list[BoxObject]] = {image_id: [] for image_id in sizes}
    for entry in record["annotations"]:
        _check_entry(entry, categories, sizes, path)
        if has_regions:
            _check_region(entry, sizes, path)
        objects[entry["image_id"]].append(_object(entry, has_region=has_regions))
    images = [
        BoxImage(i["id"], str(i["file_name"]), *sizes[i["id"]], tuple(objects[i["id"]]))
        for i in record["images"]
    ]
    return tuple(sorted(images, key=lambda image: image.image_id))


def _object(entry: Mapping[str, Any], *, has_region: bool) -> BoxObject:
    x, y, width, height = (float(number) for number in entry["bbox"])
    return BoxObject(
        int(entry["category_id"]),
        (x, y, width, height),
        float(entry.get("area", width * height)),
        bool(entry.get("iscrowd", 0)),
        (entry.get("segmentation") or None) if has_region else None,
    )


def _sizes(entries: Iterable[Mapping[str, Any]], path: Path) -> dict[int, tuple[int, int]]:
    """Height and width by image id."""
    sizes: dict[int, tuple[int, int]] = {}
    for entry in entries:
        number = entry["id"]
        if number in sizes:
            raise DataError(f"{path} lists the image {number} twice")
        if problem := size_problem(entry["height"], entry["width"]):
            raise DataError(f"{path}: the image {number} has {problem}")
        sizes[number] = (int(entry["height"]), int(entry["width"]))
    if not sizes:
        raise DataError(f"{path} lists no image")
    return sizes


def _check_entry(
    entry: Mapping[str, Any],
    categories: Mapping[int, str],
    sizes: Mapping[int, tuple[int, int]],
    path: Path,
) -> None:
    place = f"{path}: annotation {entry.get('id')}"
    if entry["image_id"] not in sizes:
        raise DataError(f"{place} is of the image {entry['image_id']}, which is not listed")
    if entry["category_id"] not in categories:
        raise DataError(f"{place} has the category {entry['category_id']}, which is not listed")
    height, width = sizes[entry["image_id"]]
    box = entry["bbox"]
    if len(box) != 4 or not all(-width - height < float(n) < 2 * (width + height) for n in box):
        raise DataError(f"{place} has the box {box}, outside of its {width}x{height} pixels")


def _check_region(
    entry: Mapping[str, Any], sizes: Mapping[int, tuple[int, int]], path: Path
) -> None:
    region = entry.get("segmentation")
    if region and (problem := region_problem(region, *sizes[entry["image_id"]])):
        raise DataError(f"{path}: annotation {entry.get('id')} has {problem}")
