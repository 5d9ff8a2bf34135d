"""What a data set still lacks below a data root, and how each part is made from its archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from experiments.datasets.layouts import (
    coco_photographs,
    coco_root,
    find_train_lists,
    voc_label_maps,
    voc_root,
)
from experiments.datasets.prepare.manifest import Archive, DatasetManifest
from experiments.datasets.prepare.sbd import build_label_maps
from experiments.datasets.prepare.unpack import unpack
from merge.storage.atomic import write_atomic


@dataclass(frozen=True, slots=True)
class Step:
    """A part that is not there: the archive it is made from, and how."""

    archive: Archive
    makes: Path
    run: Callable[[Path], None]
    """Takes the archive's path; makes the part whole or not at all."""


def missing_steps(dataset: str, data_root: Path, manifest: DatasetManifest) -> tuple[Step, ...]:
    """The steps, in order, that make `dataset` complete below `data_root`; none where it is."""
    if dataset == "pascal5i":
        return tuple(_pascal5i(data_root, manifest))
    return tuple(_coco20i(data_root, manifest))


def _pascal5i(data_root: Path, manifest: DatasetManifest) -> list[Step]:
    root = voc_root(data_root)
    lists = root / "ImageSets" / "Segmentation"
    maps = voc_label_maps(root, data_root)
    has_lists = (lists / "val.txt").is_file() and (
        (lists / "train.txt").is_file() or bool(find_train_lists(root, data_root))
    )
    has_own_maps = maps is not None or (root / "SegmentationClass").is_dir()
    steps = []
    if not (has_lists and has_own_maps and (root / "JPEGImages").is_dir()):
        steps.append(_unpacking(manifest.archives["voc2012"], root))
    if not find_train_lists(root, data_root):
        # Where VOC2012 itself is still to come its train.txt is, too: only SBD's list counts here.
        listed = lists / "train_noval.txt"
        if not listed.is_file():
            steps.append(_copying(manifest.archives["train_noval"], listed))
    if maps is None:
        steps.append(_label_maps(manifest, root))
    return steps


def _label_maps(manifest: DatasetManifest, root: Path) -> Step:
    archive = manifest.archives["sbd"]
    number = manifest.counts.get("label_maps")
    target = root / "SegmentationClassAug"

    def run(path: Path) -> None:
        voc_maps = root / "SegmentationClass"
        build_label_maps(
            path, archive, voc_maps, target, number if isinstance(number, int) else None
        )

    return Step(archive, target, run)


def _coco20i(data_root: Path, manifest: DatasetManifest) -> list[Step]:
    root = coco_root(data_root)
    annotations = root / "annotations"
    steps = []
    if not all((annotations / f"instances_{s}2014.json").is_file() for s in ("train", "val")):
        steps.append(_unpacking(manifest.archives["annotations"], annotations))
    for name in ("train2014", "val2014"):
        if coco_photographs(root, name) is None:
            steps.append(_unpacking(manifest.archives[name], root / name))
    return steps


def _unpacking(archive: Archive, target: Path) -> Step:
    return Step(archive, target, lambda path: unpack(path, archive, target))


def _copying(archive: Archive, target: Path) -> Step:
    return Step(
        archive,
        target,
        lambda path: write_atomic(target, lambda file: file.write(path.read_bytes())),
    )
