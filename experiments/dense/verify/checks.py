"""What is missing or wrong in a copy of VOC2012 or COCO."""

from __future__ import annotations

from pathlib import Path

from experiments.datasets.coco_boxes import BoxAnnotations, BoxImage, Split, open_coco
from experiments.datasets.labels import read_label_map
from experiments.datasets.layouts import read_names, voc_root
from experiments.datasets.verify.findings import Findings, Problem
from experiments.datasets.verify.images import each, photograph_size
from experiments.datasets.voc_boxes import open_voc_boxes
from experiments.dense.voc_labels import NUM_CLASSES, draw_labels
from merge.errors import DataError

SPLITS: tuple[Split, Split] = ("train", "val")

COUNTS = {
    "voc2012": {"train": 5717, "val": 5823, "train_maps": 1464, "val_maps": 1449},
    "coco2017": {"train": 118287, "val": 5000},
    "coco2014": {"train": 82783, "val": 40504},
}
"""Annotated images of the published data sets, and VOC's label maps."""


def verify(dataset: str, data_root: Path, findings: Findings, *, is_deep: bool) -> None:
    """Add to `findings` all that is missing or wrong in the copy below `data_root`."""
    root = voc_root(data_root) if dataset == "voc2012" else data_root
    absent: dict[str, None] = {}  # a folder that is not there is one problem of both splits
    for split in SPLITS:
        try:
            annotations = _opened(dataset, root, split)
        except DataError as error:
            absent[str(error)] = None
            continue
        findings.expect_count(f"{split}_images", len(annotations.images), COUNTS[dataset][split])
        _check_photographs(annotations, findings, is_deep=is_deep)
    for message in absent:
        findings.missing("annotations", message)
    if dataset == "voc2012":
        for split in SPLITS:
            _check_label_maps(root, split, findings, is_deep=is_deep)


def _opened(dataset: str, root: Path, split: Split) -> BoxAnnotations:
    if dataset == "voc2012":
        return open_voc_boxes(root, split)
    return open_coco(root, int(dataset.removeprefix("coco")), split)


def _check_photographs(annotations: BoxAnnotations, findings: Findings, *, is_deep: bool) -> None:
    folder = annotations.photographs
    present = {path.name for path in folder.glob("*")}
    for image in annotations.images:
        if image.file not in present:
            findings.missing("photograph", f"{folder / image.file} is annotated, but not there")
    there = [image for image in annotations.images if image.file in present]

    def look(image: BoxImage) -> list[Problem]:
        return _look(image, folder / image.file, is_deep=is_deep)

    for problems in each(folder.name, look, there):
        for problem in problems:
            findings.add(problem)


def _look(image: BoxImage, path: Path, *, is_deep: bool) -> list[Problem]:
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
            draw_labels(image)
        except (ValueError, TypeError, KeyError) as error:
            message = f"the objects of {image.file} cannot be drawn ({error})"
            problems.append(Problem("wrong", "annotations", message))
    return problems


def _check_label_maps(root: Path, split: Split, findings: Findings, *, is_deep: bool) -> None:
    try:
        names = read_names(root / "ImageSets" / "Segmentation" / f"{split}.txt")
    except DataError as error:
        findings.missing("list", str(error))
        return
    findings.expect_count(f"{split}_label_maps", len(names), COUNTS["voc2012"][f"{split}_maps"])
    for name in names:
        path = root / "SegmentationClass" / f"{name}.png"
        if not path.is_file():
            findings.missing("label map", f"{path} is listed, but not there")
        elif is_deep:
            try:
                read_label_map(path, NUM_CLASSES - 1)
            except DataError as error:
                findings.wrong("label map", str(error))
