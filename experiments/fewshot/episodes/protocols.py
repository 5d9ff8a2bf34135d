"""Which images a fold trains and tests on, by the field's two protocols.

`bam`    PFENet, BAM, HDMNet and other methods. Training drops every image that shows a novel class,
         at any size. An image counts for a class that has at least 2,048 pixels in it: as a query,
         if it counts for one, and as a support. A query's class is drawn among all classes
         that it shows, of any size, as in that code.
`hsnet`  HSNet, VAT, DCAMA: (image, class) pairs. Training keeps images that show novel classes;
         their pixels are background there. PASCAL-5i trains on all labelled images outside val.
         Where the data root holds HSNet's own lists of pairs, those are taken as they are.

Results are comparable within one protocol only. Inferred, and therefore an option: the area limit
of `hsnet`. Its published PASCAL-5i lists come without their rule. A plain limit of 2,660 pixels
gives their train pairs to 0.1 % in every fold (11404/10250/7794/11586 for 11394/10255/7797/11594)
and their test pairs to 1 % (348/455/720/345 for 346/451/725/346), but no plain limit gives them
exactly: they list some smaller objects and leave out some larger ones. Their order is kept: by
image in testing, by class in training. Its COCO-20i test images are `bam`'s, hence 2,048 there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from experiments.datasets.layouts import ImageList, examples
from experiments.datasets.pair_lists import Pair, pair_list_hash
from experiments.fewshot.episodes.source import Source
from merge.errors import DataError

ProtocolName = Literal["bam", "hsnet"]
SplitName = Literal["train", "val"]
PairListKind = Literal["derived", "file"]

DEFAULT_TEST_SEED: Mapping[ProtocolName, int] = {"bam": 321, "hsnet": 0}
"""SCCAN's for `bam` (other code of that line takes several), HSNet's own for `hsnet`."""

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
    """An image counts for a class with at least so many pixels in it; 0 where a file lists it."""
    pair_list: PairListKind
    """Whether the pairs follow from the label maps, or are those of HSNet's own files."""
    pairs: tuple[Pair, ...]
    """In HSNet's order: by class and image in training, by image and class in testing."""
    classes_by_image: Mapping[str, tuple[int, ...]]
    """Sorted by name; the class ids, sorted, that an episode of this query may be of."""
    images_by_class: Mapping[int, tuple[str, ...]]
    """Sorted by class id; the images that count for a class, in the order of the pairs."""

    @property
    def class_ids(self) -> tuple[int, ...]:
        """The classes of the split's episodes: base classes in training, novel ones in testing."""
        return self.base if self.split == "train" else self.novel

    @property
    def queries(self) -> tuple[str, ...]:
        """The images that may be a query, sorted."""
        return tuple(self.classes_by_image)

    @property
    def pair_list_hash(self) -> str:
        """16 hex digits of the pairs and their order."""
        return pair_list_hash(self.pairs)

    @property
    def draws_class_first(self) -> bool:
        """Whether `hsnet` draws an episode's class before its query: on COCO-20i it does."""
        return self.dataset == "coco20i"

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

    `min_area_px` replaces the protocol's area limit, and HSNet's lists too. DataError where the
    protocol or the fold is unknown, a list is missing or does not fit, or no image remains.
    """
    if protocol not in get_args(ProtocolName):
        choices = ", ".join(get_args(ProtocolName))
        raise DataError(f"there is no protocol {protocol!r}; choose one of {choices}")
    novel, base = novel_classes(source, fold), base_classes(source, fold)
    limit = default_min_area_px(source.name, protocol) if min_area_px is None else min_area_px
    class_ids = base if split == "train" else novel
    areas = source.class_areas(_image_list(protocol, split))
    wants_lists = protocol == "hsnet" and min_area_px is None
    listed = source.listed_pairs(split, fold) if wants_lists else None
    if listed is not None:
        _check_listed(listed, areas, split, source.mask_variant)
    if protocol == "bam" and split == "train":
        areas = {name: found for name, found in areas.items() if found.keys().isdisjoint(novel)}
    pairs = _derived(areas, class_ids, limit, split) if listed is None else listed
    if not pairs:
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
        min_area_px=limit if listed is None else 0,
        pair_list="derived" if listed is None else "file",
        pairs=pairs,
        classes_by_image=_shown(pairs, areas, class_ids) if protocol == "bam" else _by_image(pairs),
        images_by_class=_by_class(pairs, class_ids),
    )


def usable_classes(split: Split, shot: int) -> tuple[int, ...]:
    """The classes that an episode of `shot` supports and one query can be drawn for."""
    # The shots of hsnet may repeat.
    distinct = 1 if split.protocol == "hsnet" else shot
    return tuple(c for c, images in split.images_by_class.items() if len(images) > distinct)


def _image_list(protocol: ProtocolName, split: SplitName) -> ImageList:
    if split == "val":
        return "val"
    return "train_all" if protocol == "hsnet" else "train"


def _derived(
    areas: Mapping[str, Mapping[int, int]],
    class_ids: tuple[int, ...],
    min_area_px: int,
    split: SplitName,
) -> tuple[Pair, ...]:
    wanted = frozenset(class_ids)
    pairs = [
        (name, class_id)
        for name, found in areas.items()
        for class_id, pixels in found.items()
        if class_id in wanted and pixels >= min_area_px
    ]
    return tuple(sorted(pairs, key=lambda pair: pair if split == "val" else pair[::-1]))


def _check_listed(
    pairs: Iterable[Pair],
    areas: Mapping[str, Mapping[int, int]],
    split: SplitName,
    mask_variant: str,
) -> None:
    foreign = [f"{name}__{c:02d}" for name, c in pairs if c not in areas.get(name, {})]
    if foreign:
        # The lists were made from the field's label maps.
        other = "; or set mask_variant=field" if mask_variant == "exact" else ""
        raise DataError(
            f"{examples(foreign)} of the listed pairs name an image that is not for {split}, or a "
            "class that its label map does not show: the lists and the label maps are not of one "
            f"data set; restore both{other}"
        )


def _shown(
    pairs: Iterable[Pair], areas: Mapping[str, Mapping[int, int]], class_ids: Iterable[int]
) -> dict[str, tuple[int, ...]]:
    """Of `class_ids` all that the images of the pairs show, at any size."""
    wanted = frozenset(class_ids)
    names = sorted({name for name, _ in pairs})
    return {name: tuple(sorted(wanted & areas[name].keys())) for name in names}


def _by_image(pairs: Iterable[Pair]) -> dict[str, tuple[int, ...]]:
    classes: dict[str, list[int]] = {}
    for name, class_id in sorted(set(pairs)):
        classes.setdefault(name, []).append(class_id)
    return {name: tuple(found) for name, found in classes.items()}


def _by_class(pairs: Iterable[Pair], class_ids: tuple[int, ...]) -> dict[int, tuple[str, ...]]:
    images: dict[int, list[str]] = {class_id: [] for class_id in class_ids}
    for name, class_id in pairs:
        images[class_id].append(name)
    return {class_id: tuple(names) for class_id, names in images.items()}
