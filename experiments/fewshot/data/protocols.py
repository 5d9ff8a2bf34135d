"""Which images a fold trains and tests on, by the field's two protocols.

`bam`    PFENet, BAM, HDMNet and others. Training drops every image that shows a novel class, at
         any size. An image counts for a class that has at least 2,048 pixels in it.
`hsnet`  HSNet, VAT, DCAMA: (image, class) pairs. Training keeps images that show novel classes;
         their pixels are background there. PASCAL-5i trains on all labelled images outside val.

Results are comparable within one protocol only. Inferred, and therefore an option: the area limit
of `hsnet`. Its published PASCAL-5i lists come without their rule. A plain limit of 2,660 pixels
gives their train pairs to 0.1 % in every fold (11404/10250/7794/11586 for 11394/10255/7797/11594)
and their test pairs to 1 % (348/455/720/345 for 346/451/725/346), but no plain limit gives them
exactly: they list some smaller objects. Its COCO-20i test images are `bam`'s, hence 2,048 there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from experiments.fewshot.data.layouts import ImageList
from experiments.fewshot.data.source import Source
from merge.errors import DataError

ProtocolName = Literal["bam", "hsnet"]
SplitName = Literal["train", "val"]

_MIN_AREA_PX = 2 * 32 * 32
_HSNET_PASCAL_MIN_AREA_PX = 2660


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The images of one fold for training or for testing, by class and by image."""

    dataset: str
    protocol: ProtocolName
    fold: int
    split: SplitName
    novel: tuple[int, ...]
    """The class ids that the fold tests."""
    base: tuple[int, ...]
    """All other class ids."""
    min_area_px: int
    """An image counts for a class with at least so many pixels in it."""
    classes_by_image: Mapping[str, tuple[int, ...]]
    """Sorted by name; the class ids, sorted, that an image counts for."""
    images_by_class: Mapping[int, tuple[str, ...]]
    """Sorted by class id; for every class of the split, the sorted images that count for it."""

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The classes of the split's episodes: base classes in training, novel ones in testing."""
        return self.base if self.split == "train" else self.novel

    @property
    def queries(self) -> tuple[str, ...]:
        """The images that may be a query, sorted."""
        return tuple(self.classes_by_image)

    @property
    def pairs(self) -> tuple[tuple[str, int], ...]:
        """The (image, class id) pairs, sorted by image; `hsnet` counts these."""
        return tuple((name, c) for name, found in self.classes_by_image.items() for c in found)

    @property
    def novel_is_background(self) -> bool:
        """Whether images of the split may show novel classes that training calls background."""
        return self.protocol == "hsnet" and self.split == "train"


def novel_classes(source: Source, fold: int) -> tuple[int, ...]:
    """The class ids that `fold` tests. DataError where there is no such fold."""
    if fold not in range(len(source.folds)):
        choices = ", ".join(str(number) for number in range(len(source.folds)))
        raise DataError(f"{source.name} has no fold {fold}; choose one of {choices}")
    return source.folds[fold]


def base_classes(source: Source, fold: int) -> tuple[int, ...]:
    """The class ids that `fold` trains on: all but the novel ones."""
    novel = novel_classes(source, fold)
    return tuple(c for c in range(1, source.num_classes + 1) if c not in novel)


def default_min_area_px(dataset: str, protocol: ProtocolName) -> int:
    """The protocol's area limit. For `hsnet` it is inferred (see the module)."""
    if protocol == "hsnet" and dataset == "pascal5i":
        return _HSNET_PASCAL_MIN_AREA_PX
    return _MIN_AREA_PX


def build_split(
    source: Source,
    protocol: ProtocolName,
    fold: int,
    split: SplitName,
    *,
    min_area_px: int | None = None,
) -> Split:
    """The images of `fold` by `protocol`; from the class index alone, no image is opened.

    `min_area_px` replaces the protocol's area limit. DataError where the protocol or the fold is
    unknown, a list is missing, or no image remains.
    """
    if protocol not in get_args(ProtocolName):
        choices = ", ".join(get_args(ProtocolName))
        raise DataError(f"there is no protocol {protocol!r}; choose one of {choices}")
    novel, base = novel_classes(source, fold), base_classes(source, fold)
    limit = default_min_area_px(source.name, protocol) if min_area_px is None else min_area_px
    class_ids = base if split == "train" else novel
    areas = source.class_areas(_image_list(protocol, split))
    if protocol == "bam" and split == "train":
        areas = {name: found for name, found in areas.items() if found.keys().isdisjoint(novel)}
    classes_by_image = _counted(areas, class_ids, limit)
    if not classes_by_image:
        raise DataError(
            f"protocol {protocol} keeps no {split} image of {source.name} fold {fold}: none shows "
            f"a class to {split} on with {limit:,} pixels or more; use more images, or a lower "
            "area limit"
        )
    return Split(
        dataset=source.name,
        protocol=protocol,
        fold=fold,
        split=split,
        novel=novel,
        base=base,
        min_area_px=limit,
        classes_by_image=classes_by_image,
        images_by_class=_by_class(classes_by_image, class_ids),
    )


def usable_classes(split: Split, shot: int) -> tuple[int, ...]:
    """The classes that an episode of `shot` supports and one query can be drawn for."""
    return tuple(c for c, images in split.images_by_class.items() if len(images) > shot)


def _image_list(protocol: ProtocolName, split: SplitName) -> ImageList:
    if split == "val":
        return "val"
    return "train_all" if protocol == "hsnet" else "train"


def _counted(
    areas: Mapping[str, Mapping[int, int]], class_ids: tuple[int, ...], min_area_px: int
) -> dict[str, tuple[int, ...]]:
    wanted = frozenset(class_ids)
    counted = {
        name: tuple(sorted(c for c, px in found.items() if c in wanted and px >= min_area_px))
        for name, found in sorted(areas.items())
    }
    return {name: found for name, found in counted.items() if found}


def _by_class(
    classes_by_image: Mapping[str, tuple[int, ...]], class_ids: tuple[int, ...]
) -> dict[int, tuple[str, ...]]:
    images: dict[int, list[str]] = {class_id: [] for class_id in class_ids}
    for name, found in classes_by_image.items():
        for class_id in found:
            images[class_id].append(name)
    return {class_id: tuple(names) for class_id, names in images.items()}
