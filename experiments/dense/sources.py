"""The images of a run, as their data set has them on disk. No torch.

Subsets are drawn from the seed alone, so they are the same on all ranks. The test list has a seed
of its own: runs with other seeds are tested on the same images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.datasets.coco_boxes import BoxAnnotations, BoxImage, Split, open_coco
from experiments.datasets.image_folder import ImageFolder, read_image_folder, read_train_and_val
from experiments.datasets.layouts import read_names, voc_root
from experiments.datasets.shape_images import ensure_shapes5
from experiments.datasets.shape_layouts import ensure_shapes3
from experiments.datasets.voc_boxes import open_voc_boxes
from experiments.dense.label_maps import CocoLabels, LabelledImages, VocLabels
from experiments.dense.options import DataOptions, Options
from experiments.dense.voc_labels import area_of_classes
from experiments.runtime.seeds import numpy_generator
from experiments.runtime.splits import split_of
from merge.errors import DataError
from merge.storage.json_files import canonical_json

AnyImages = LabelledImages | BoxAnnotations | ImageFolder

_LAYOUTS = {"shapes3_voc": "VOC2012", "shapes3_coco": "COCO2017"}
_TEST_SEED = 0

TEST, VALIDATION = "test", "validation"
"""Lists of images that an evaluation goes through."""


@dataclass(frozen=True, slots=True)
class Images:
    """The training and test images of a run, in one of three forms."""

    train: AnyImages
    test: AnyImages
    train_places: tuple[int, ...]
    """Which of the training images a run trains on."""
    validation_places: tuple[int, ...]
    """Which of the training images the best epoch is chosen on; none: on the tested ones."""
    test_places: tuple[int, ...]
    fingerprint: str

    def of_list(self, name: str) -> tuple[AnyImages, tuple[int, ...]]:
        """The images of the list "test" or "validation", and which of them are in it."""
        if name == VALIDATION:
            return self.train, self.validation_places
        return self.test, self.test_places


def open_images(options: Options, data_root: Path | None, cache_dir: Path) -> Images:
    """Open the data set. DataError names what is missing, and how to get it.

    A run without training reads the test images alone: its `train` is `test`.
    """
    options.check()
    root = _root(options.data.dataset, data_root, cache_dir)
    if options.task == "classification":
        return _folders(options, root, cache_dir)
    if options.task == "segmentation":
        return _label_maps(options, root)
    boxes, tested = (_boxes(options.data.dataset, root, split) for split in _splits(options))
    return _chosen(options, boxes, tested, f"{boxes.fingerprint()} {tested.fingerprint()}")


def missing_photographs(images: Images) -> list[Path]:
    """Photographs that training or testing needs and that are not there, sorted.

    Of folders of images there are none: what is there is the data set.
    """
    missing: set[Path] = set()
    trained = (*images.train_places, *images.validation_places)
    for part, places in ((images.train, trained), (images.test, images.test_places)):
        if not isinstance(part, ImageFolder):
            there = {path.name for path in part.photographs.glob("*")}
            names = (part.files[place] for place in places)
            missing |= {part.photographs / name for name in names if name not in there}
    return sorted(missing)


def has_trainable_box(image: BoxImage) -> bool:
    """Whether an image has an object that is no crowd and wider and higher than a pixel."""
    return any(not o.is_crowd and min(o.box[2:]) > 1 for o in image.objects)


def _root(dataset: str, data_root: Path | None, cache_dir: Path) -> Path:
    if dataset == "shapes5":
        return ensure_shapes5(cache_dir)
    if dataset in _LAYOUTS:
        return ensure_shapes3(cache_dir) / _LAYOUTS[dataset]
    if data_root is None:
        raise DataError(f"{dataset} needs a data root: name its folder with --data-root DIR")
    if not data_root.is_dir():
        raise DataError(f"the data root {data_root} is no folder: name one with --data-root DIR")
    return voc_root(data_root) if dataset == "voc2012" else data_root


def _splits(options: Options) -> tuple[Split, Split]:
    return ("train" if options.runtime.epochs else "val"), "val"


def _folders(options: Options, root: Path, cache_dir: Path) -> Images:
    if options.runtime.epochs:
        train, test = read_train_and_val(root, cache_dir)
    else:
        train = test = read_image_folder(root, "val", cache_dir)
    return _chosen(options, train, test, f"{train.fingerprint} {test.fingerprint}")


def _boxes(dataset: str, root: Path, split: Split, *, has_regions: bool = False) -> BoxAnnotations:
    if dataset in {"voc2012", "shapes3_voc"}:
        return open_voc_boxes(root, split)
    year = 2014 if dataset == "coco2014" else 2017
    return open_coco(root, year, split, has_regions=has_regions)


def _label_maps(options: Options, root: Path) -> Images:
    data = options.data
    if data.dataset in {"voc2012", "shapes3_voc"}:
        train, test = (_voc_labels(root, data, split) for split in _splits(options))
        return _chosen(options, train, test, _fingerprint_of_files(train, test))
    boxes, tested = (
        _boxes(data.dataset, root, split, has_regions=True) for split in _splits(options)
    )
    fingerprint = f"{boxes.fingerprint()} {tested.fingerprint()}"
    return _chosen(options, CocoLabels(boxes), CocoLabels(tested), fingerprint)


def _voc_labels(root: Path, data: DataOptions, split: Split) -> VocLabels:
    lists = root / "ImageSets" / "Segmentation"
    masks = root / ("SegmentationClass" if data.label_maps == "voc" else "SegmentationClassAug")
    if not masks.is_dir():
        raise DataError(
            f"there is no folder {masks} with label maps: unpack VOCtrainval_11-May-2012.tar "
            "(SegmentationClass), or `replicate prepare` of few-shot segmentation makes "
            "SegmentationClassAug"
        )
    names = read_names(lists / f"{split}.txt")
    if data.label_maps == "augmented" and split == "train":
        val = set(read_names(lists / "val.txt"))
        names = tuple(sorted(path.stem for path in masks.glob("*.png") if path.stem not in val))
    return VocLabels(root / "JPEGImages", masks, tuple(f"{name}.jpg" for name in names))


def _fingerprint_of_files(*parts: VocLabels) -> str:
    try:
        sizes = [[[f, p.mask(n).stat().st_size] for n, f in enumerate(p.files)] for p in parts]
    except OSError as error:
        raise DataError(f"label map {error.filename} is missing: restore it") from error
    return hashlib.sha256(canonical_json(sizes)).hexdigest()[:16]


def _chosen(
    options: Options,
    train: AnyImages,
    test: AnyImages,
    fingerprint: str,
) -> Images:
    data = options.data
    usable = _usable(train, data.min_area_px) if options.runtime.epochs else ()
    places = _subset(usable, data.num_train_images, options.runtime.seed, "train images")
    tested = _subset(range(len(test.files)), data.num_test_images, _TEST_SEED, "test images")
    if not tested or not (places or options.runtime.epochs == 0):
        raise DataError(f"{data.dataset} has no image to {'train' if tested else 'test'} on")
    validating: tuple[int, ...] = ()
    if data.validation_fraction and places:
        kept, left_out = split_of(len(places), data.validation_fraction, options.runtime.seed)
        validating = tuple(places[n] for n in left_out)
        places = tuple(places[n] for n in kept)
    return Images(train, test, places, validating, tested, fingerprint)


def _usable(images: AnyImages, min_area_px: int) -> list[int]:
    """The places of the training images, without those that have nothing to learn from."""
    if isinstance(images, BoxAnnotations):
        return [n for n, image in enumerate(images.images) if has_trainable_box(image)]
    if isinstance(images, CocoLabels):
        each = enumerate(images.annotations.images)
        return [n for n, image in each if area_of_classes(image) > min_area_px]
    return list(range(len(images.files)))


def _subset(places: Sequence[int], number: int, seed: int, name: str) -> tuple[int, ...]:
    """`number` of the places in their order, drawn without repetition; all for 0 or too few."""
    if not number or number >= len(places):
        return tuple(places)
    drawn = numpy_generator(seed, name).choice(np.array(places), number, replace=False)
    return tuple(int(place) for place in np.sort(drawn))
