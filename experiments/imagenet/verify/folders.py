"""Checking folders of images: classes, numbers, and with `is_deep` every file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from experiments.datasets.image_folder import ImageFolder, read_image_folder
from experiments.datasets.labels import open_photograph
from experiments.datasets.verify.findings import Findings, Problem
from experiments.datasets.verify.images import each
from merge.errors import DataError


def verify_imagenet(
    data_root: Path, counts: Mapping[str, int], findings: Findings, *, is_deep: bool
) -> None:
    """Add to `findings` all that is missing or wrong in the copy below `data_root`."""
    splits = {}
    for name in ("train", "val"):
        try:
            splits[name] = read_image_folder(data_root, name)
        except DataError as error:
            findings.missing(name, str(error))
    for name, split in splits.items():
        findings.expect_count(f"{name}_images", len(split), counts.get(f"{name}_images"))
        findings.expect_count(f"classes of {name}", len(split.classes), counts.get("classes"))
        _look_at_files(name, split, findings, is_deep=is_deep)
    if len(splits) == 2:
        _compare_classes(splits["train"], splits["val"], findings)


def _compare_classes(train: ImageFolder, val: ImageFolder, findings: Findings) -> None:
    for name in sorted(set(train.classes) ^ set(val.classes)):
        there, absent = (train, val) if name in train.classes else (val, train)
        findings.wrong("class", f"{name} is in {there.folder}, but not in {absent.folder}")


def _look_at_files(name: str, split: ImageFolder, findings: Findings, *, is_deep: bool) -> None:
    for index in (split.sizes == 0).nonzero()[0].tolist():
        findings.wrong("empty file", f"{split.path(index)} has no content")
    if is_deep:
        indices = (split.sizes > 0).nonzero()[0].tolist()
        for problem in each(f"{name} images", partial(_look, split), indices):
            if problem is not None:
                findings.add(problem)


def _look(split: ImageFolder, index: int) -> Problem | None:
    try:
        open_photograph(split.path(index))
    except DataError as error:
        return Problem("wrong", "image", str(error))
    return None
