"""Checking a copy of COCO2014."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from experiments.datasets.coco_annotations import (
    CocoImage,
    check_same_categories,
    read_annotations,
)
from experiments.datasets.coco_masks import rasterise
from experiments.datasets.layouts import find_coco20i
from experiments.datasets.prepare.manifest import Count
from experiments.datasets.verify.findings import Findings, Problem
from experiments.datasets.verify.images import each, photograph_size
from experiments.fewshot.verify.coco_lists import verify_coco_lists
from merge.errors import DataError


def verify_coco20i(
    data_root: Path, counts: Mapping[str, Count], findings: Findings, *, is_deep: bool
) -> None:
    """Add to `findings` all that is missing or wrong in the copy below `data_root`."""
    try:
        layout = find_coco20i(data_root)
    except DataError as error:
        findings.missing("layout", str(error))
        return
    names: dict[str, set[str]] = {}
    drawable: dict[str, list[CocoImage]] = {}
    categories: dict[Path, Mapping[int, str]] = {}
    for split, path in layout.annotations.items():
        try:
            annotations = read_annotations(path)
        except DataError as error:
            findings.wrong("annotations", str(error))
            continue
        images, categories[path] = annotations.images, annotations.categories
        names[split] = {image.name for image in images}
        drawable[split] = images
        key = f"photographs_{split}"
        findings.expect_count(key, len(images), counts.get(key))
        _check_images(images, layout.photographs[split], findings, is_deep=is_deep)
    if len(categories) == len(layout.annotations):
        try:
            check_same_categories(categories)
        except DataError as error:
            findings.wrong("annotations", str(error))
    for name in sorted(names.get("train", set()) & names.get("val", set())):
        findings.wrong("annotations", f"{name} is annotated both for training and for testing")
    if is_deep and layout.pair_lists is not None:
        verify_coco_lists(layout.pair_lists, drawable, findings)


def _check_images(
    images: list[CocoImage], folder: Path, findings: Findings, *, is_deep: bool
) -> None:
    present = {path.stem for path in folder.glob("*.jpg")}
    for image in images:
        if image.name not in present:
            findings.missing("photograph", f"{folder / image.name}.jpg is annotated, but not there")
    there = [image for image in images if image.name in present]

    def look(image: CocoImage) -> list[Problem]:
        return _look(image, folder / f"{image.name}.jpg", is_deep=is_deep)

    for problems in each(folder.name, look, there):
        for problem in problems:
            findings.add(problem)


def _look(image: CocoImage, path: Path, *, is_deep: bool) -> list[Problem]:
    problems = []
    try:
        height, width = photograph_size(path, is_deep=is_deep)
        if (height, width) != (image.height, image.width):
            message = f"{path} has {width}x{height} pixels, annotated are "
            problems.append(Problem("wrong", "size", f"{message}{image.width}x{image.height}"))
    except DataError as error:
        problems.append(Problem("wrong", "photograph", str(error)))
    if is_deep:
        try:
            rasterise(image.height, image.width, image.objects, "exact")
        except (ValueError, TypeError, KeyError) as error:
            message = f"the objects of {image.name} cannot be drawn ({error})"
            problems.append(Problem("wrong", "annotations", message))
    return problems
