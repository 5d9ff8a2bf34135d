"""Checking a copy of VOC2012 with SBD's label maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from experiments.datasets.index import ClassIndex, ImageLabels
from experiments.datasets.labels import read_label_map
from experiments.datasets.layouts import VocLayout, find_pascal5i, no_train_list, read_names
from experiments.datasets.prepare.manifest import Count
from experiments.datasets.verify.findings import Findings, Problem
from experiments.datasets.verify.images import each, photograph_size
from experiments.datasets.voc import VocSource
from experiments.fewshot.episodes.protocols import SplitName, build_split
from experiments.fewshot.episodes.source import contiguous_folds
from merge.errors import DataError

_NUM_CLASSES = 20

_Looked = tuple[str, ImageLabels | None, list[Problem]]


def verify_pascal5i(
    data_root: Path, counts: Mapping[str, Count], findings: Findings, *, is_deep: bool
) -> None:
    """Add to `findings` all that is missing or wrong in the copy below `data_root`."""
    try:
        layout = find_pascal5i(data_root)
    except DataError as error:
        findings.missing("layout", str(error))
        return
    lists = _lists(layout, counts, findings)
    masks = {path.stem for path in layout.masks.glob("*.png")}
    photographs = {path.stem for path in layout.photographs.glob("*.jpg")}
    findings.expect_count("label_maps", len(masks), counts.get("label_maps"))
    findings.expect_count("photographs", len(photographs), counts.get("photographs"))
    for name in sorted({n for names in lists.values() for n in names} - masks):
        findings.missing("label map", f"{layout.masks / name}.png is listed, but not there")
    for name in sorted(masks - photographs):
        findings.missing("photograph", f"{layout.photographs / name}.jpg is not there")
    labels = _label_maps(layout, sorted(masks), photographs, findings, is_deep=is_deep)
    if {"train", "val"} == lists.keys() and all(names <= labels.keys() for names in lists.values()):
        _protocol_counts(layout, lists, labels, counts, findings)


def _lists(
    layout: VocLayout, counts: Mapping[str, Count], findings: Findings
) -> dict[str, set[str]]:
    """The names by list: "val", and "train" where the training images are known."""
    lists: dict[str, set[str]] = {}
    for path in (*layout.train_lists, layout.val_list):
        try:
            names = set(read_names(path))
        except DataError as error:
            findings.missing("list", str(error))
            continue
        known = path.stem.removeprefix("sbd_")
        findings.expect_count(known, len(names), counts.get(known))
        lists.setdefault("val" if path == layout.val_list else "train", set()).update(names)
    if not layout.train_lists:
        findings.missing("list", str(no_train_list(layout)))
    elif "train" in lists:
        findings.expect_count("train_merged", len(lists["train"]), counts.get("train_merged"))
    for name in sorted(lists.get("train", set()) & lists.get("val", set())):
        findings.wrong("list", f"{name} is listed both for training and for testing")
    return lists


def _label_maps(
    layout: VocLayout,
    names: list[str],
    photographs: set[str],
    findings: Findings,
    *,
    is_deep: bool,
) -> dict[str, ImageLabels]:
    def look(name: str) -> _Looked:
        return _look(layout, name, has_photograph=name in photographs, is_deep=is_deep)

    found: dict[str, ImageLabels] = {}
    for name, labels, problems in each("label maps and photographs", look, names):
        for problem in problems:
            findings.add(problem)
        if labels is not None:
            found[name] = labels
    return found


def _look(layout: VocLayout, name: str, *, has_photograph: bool, is_deep: bool) -> _Looked:
    try:
        labels = ImageLabels.of(read_label_map(layout.masks / f"{name}.png", _NUM_CLASSES))
    except DataError as error:
        return name, None, [Problem("wrong", "label map", str(error))]
    if not has_photograph:
        return name, labels, []
    path = layout.photographs / f"{name}.jpg"
    try:
        size = photograph_size(path, is_deep=is_deep)
    except DataError as error:
        return name, labels, [Problem("wrong", "photograph", str(error))]
    if size == (labels.height, labels.width):
        return name, labels, []
    message = f"{path} has {size[1]}x{size[0]} pixels, its label map {labels.width}x{labels.height}"
    return name, labels, [Problem("wrong", "size", message)]


def _protocol_counts(
    layout: VocLayout,
    lists: Mapping[str, set[str]],
    labels: Mapping[str, ImageLabels],
    counts: Mapping[str, Count],
    findings: Findings,
) -> None:
    """How many images each fold of protocol `bam` has, which follows from every label's pixels."""
    index = ClassIndex.build(list(labels), labels.values())
    named = {
        "train": tuple(sorted(lists["train"])),
        "val": tuple(sorted(lists["val"])),
    }
    source = VocSource(
        "pascal5i", contiguous_folds(_NUM_CLASSES), layout, index, index.rows(), named
    )
    splits: dict[SplitName, str] = {"train": "bam_train", "val": "bam_test"}
    for split, key in splits.items():
        wanted = counts.get(key)
        if isinstance(wanted, tuple):
            for fold, number in enumerate(wanted):
                queries = build_split(source, "bam", fold, split).queries
                findings.expect_count(f"{key} of fold {fold}", len(queries), number)
