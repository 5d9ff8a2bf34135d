"""Where the parts of a data set lie below a data root, in the layouts that people have on disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from merge.errors import DataError

ImageList = Literal["train", "train_all", "val"]
"""`train_all`: every labelled image outside val. For PASCAL-5i 10,582 against train's 5,953."""

VOC_ROOTS = (
    *(".", "VOC2012", "VOCdevkit/VOC2012", "VOCdevkit2012/VOC2012"),
    *("pascal", "pascal/VOC2012", "pascal/VOCdevkit/VOC2012", "pascal/VOCdevkit2012/VOC2012"),
    *("PASCAL", "PASCAL/VOC2012", "PASCAL/VOCdevkit/VOC2012", "pascal5i", "pascal5i/VOC2012"),
    *("VOC/VOC2012", "VOC/VOCdevkit/VOC2012", "VOCtrainval_11-May-2012/VOCdevkit/VOC2012"),
)
_VOC_PARTS = ("JPEGImages", "ImageSets", "SegmentationClassAug")
COCO_ROOTS = (
    *(".", "COCO2014", "MSCOCO2014", "coco2014", "mscoco2014", "coco", "COCO", "mscoco", "MSCOCO"),
    *("coco20i", "coco/COCO2014", "coco/MSCOCO2014"),
)
_COCO_PARTS = ("annotations", "train2014", "val2014")

_SBD_LIST_NAMES = ("train_noval.txt", "sbd_train_noval.txt")
_SBD_FOLDERS = (".", "ImageSets/Segmentation", "sbd", "SBD", "benchmark_RELEASE/dataset", "dataset")
_PAIR_LISTS = ("splits/{}", "data/splits/{}")
_MERGED_LIST_NAMES = ("voc_sbd_merge_noduplicate.txt", "train_aug.txt", "trainaug.txt")
_NUM_PASCAL_TRAIN = 5953
"""VOC train (1,464) and SBD train_noval (5,623), each name once."""


@dataclass(frozen=True, slots=True)
class VocLayout:
    """The parts of a data set in VOC layout."""

    photographs: Path
    masks: Path
    train_lists: tuple[Path, ...]
    """Files that name the training images together; empty where one of them is absent."""
    val_list: Path
    pair_lists: Path | None = None
    """The folder with HSNet's own `trn/` and `val/` lists, where there is one."""


@dataclass(frozen=True, slots=True)
class CocoLayout:
    """The parts of COCO2014; keys are "train" and "val"."""

    annotations: Mapping[str, Path]
    photographs: Mapping[str, Path]
    pair_lists: Path | None = None
    """The folder with HSNet's own `trn/` and `val/` lists, where there is one."""


def voc_layout(root: Path) -> VocLayout:
    """The plain layout: `root` itself, training images named by train.txt alone."""
    lists = root / "ImageSets" / "Segmentation"
    return VocLayout(
        photographs=root / "JPEGImages",
        masks=root / "SegmentationClassAug",
        train_lists=(lists / "train.txt",),
        val_list=lists / "val.txt",
    )


def find_pascal5i(data_root: Path) -> VocLayout:
    """VOC2012 with SBD's label maps below `data_root`. DataError names what is missing."""
    _check_folder(data_root, _PASCAL_HELP)
    root = _first_root(data_root, VOC_ROOTS, _VOC_PARTS) or data_root
    photographs = root / "JPEGImages"
    masks = voc_label_maps(root, data_root)
    if masks is None and not photographs.is_dir():
        raise DataError(f"no PASCAL VOC2012 below {data_root} ({_seen(data_root)}); {_PASCAL_HELP}")
    if masks is None:
        raise DataError(_no_masks(root))
    if not photographs.is_dir():
        raise DataError(
            f"{masks} holds label maps, but there is no folder {photographs} with their "
            f"photographs: unpack VOCtrainval_11-May-2012.tar beside it; {_PASCAL_HELP}"
        )
    return VocLayout(
        photographs=photographs,
        masks=masks,
        train_lists=find_train_lists(root, data_root),
        val_list=root / "ImageSets" / "Segmentation" / "val.txt",
        pair_lists=_find_pair_lists("pascal", root, data_root),
    )


def voc_root(data_root: Path) -> Path:
    """Where VOC2012 lies below `data_root`, or would be put."""
    return _first_root(data_root, VOC_ROOTS, _VOC_PARTS) or data_root / "VOCdevkit" / "VOC2012"


def voc_label_maps(root: Path, data_root: Path) -> Path | None:
    """The folder with the label maps of VOC2012 and SBD, where there is one."""
    return _first_folder([root, data_root], "SegmentationClassAug")


def _find_pair_lists(name: str, root: Path, data_root: Path) -> Path | None:
    tops = (data_root, root, root.parent)
    folders = [top / folder.format(name) for top in tops for folder in _PAIR_LISTS]
    return next((folder for folder in folders if folder.is_dir()), None)


def find_train_lists(root: Path, data_root: Path) -> tuple[Path, ...]:
    """The files that together name the 5,953 training images of protocol `bam`, or none.

    VOC's train.txt and SBD's train_noval.txt, or one list of both merged. A merged list counts
    only with exactly 5,953 names: the usual train_aug.txt has 10,582, and other results.
    """
    voc_train = root / "ImageSets" / "Segmentation" / "train.txt"
    folders = [top / folder for top in (root, data_root, root.parent) for folder in _SBD_FOLDERS]
    sbd = _first_file(folders, _SBD_LIST_NAMES)
    if sbd is not None and voc_train.is_file():
        return (voc_train, sbd)
    for folder in folders:
        for name in _MERGED_LIST_NAMES:
            merged = folder / name
            if merged.is_file() and len(set(read_names(merged))) == _NUM_PASCAL_TRAIN:
                return (merged,)
    return ()


def no_train_list(layout: VocLayout) -> DataError:
    """The error for a PASCAL-5i whose training list is not known."""
    return DataError(
        f"the list of training images is incomplete for {layout.photographs.parent}: the "
        f"{_NUM_PASCAL_TRAIN:,} images are those of ImageSets/Segmentation/train.txt (VOC2012) "
        "and of SBD's train_noval.txt (5,623 names, home.bharathh.info/pubs/codes/SBD/, md5 "
        "79bff800c5f0b1ec6b21080a3c066722); put both into ImageSets/Segmentation/. A train_aug.txt "
        "of 10,582 names is another list and does not replace them"
    )


def find_coco20i(data_root: Path) -> CocoLayout:
    """COCO2014 below `data_root`. DataError names what is missing."""
    _check_folder(data_root, _COCO_HELP)
    root = _first_root(data_root, COCO_ROOTS, _COCO_PARTS)
    if root is None:
        raise DataError(f"no COCO2014 below {data_root} ({_seen(data_root)}); {_COCO_HELP}")
    annotations = {
        split: root / "annotations" / f"instances_{split}2014.json" for split in ("train", "val")
    }
    for path in annotations.values():
        if not path.is_file():
            raise DataError(
                f"there is no {path}: unpack annotations_trainval2014.zip in {root}; {_COCO_HELP}"
            )
    return CocoLayout(
        annotations,
        {split: _coco_folder(root, split) for split in annotations},
        _find_pair_lists("coco", root, data_root),
    )


def coco_root(data_root: Path) -> Path:
    """Where COCO2014 lies below `data_root`, or would be put."""
    return _first_root(data_root, COCO_ROOTS, _COCO_PARTS) or data_root / "COCO2014"


def coco_photographs(root: Path, name: str) -> Path | None:
    """The folder `train2014` or `val2014` of COCO2014, where there is one."""
    return _first_folder([root, root / "images"], name)


def read_names(path: Path) -> tuple[str, ...]:
    """The image names of a list: the first word of each line, without folder and suffix."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"the image list {path} is missing; {_PASCAL_HELP}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the image list {path} cannot be read ({error})") from error
    names = tuple(Path(line.split()[0]).stem for line in lines if line.strip())
    if not names:
        raise DataError(f"the image list {path} is empty: restore it from the data set")
    return names


def examples(names: Collection[str]) -> str:
    """How many names there are, and the first three."""
    first = sorted(names)[:3]
    more = ", ..." if len(names) > len(first) else ""
    return f"{len(names):,} ({', '.join(first)}{more})"


_PASCAL_HELP = (
    "accepted: a data root that holds VOC2012/ or VOCdevkit/VOC2012/, or is that folder, with "
    "JPEGImages/, SegmentationClassAug/ and ImageSets/Segmentation/"
)
_COCO_HELP = (
    "accepted: a data root that holds COCO2014/ or MSCOCO2014/, or is that folder, with "
    "train2014/, val2014/ and annotations/instances_{train,val}2014.json (COCO2017 divides the "
    "images otherwise and is no substitute)"
)


def _check_folder(data_root: Path, help_text: str) -> None:
    if not data_root.is_dir():
        raise DataError(f"the data root {data_root} is no folder; {help_text}")
    if not any(data_root.iterdir()):
        raise DataError(f"the data root {data_root} is empty; {help_text}")


def _first_root(data_root: Path, roots: tuple[str, ...], marks: tuple[str, ...]) -> Path | None:
    """The first folder with most of the marks: a part alone never hides the whole beside it."""
    best, most = None, 0
    for candidate in (data_root / root for root in roots):
        present = sum((candidate / mark).is_dir() for mark in marks)
        if present > most:
            best, most = candidate, present
    return best


def _first_folder(parents: list[Path], name: str) -> Path | None:
    return next((parent / name for parent in parents if (parent / name).is_dir()), None)


def _first_file(folders: list[Path], names: tuple[str, ...]) -> Path | None:
    files = (folder / name for folder in folders for name in names)
    return next((path for path in files if path.is_file()), None)


def _no_masks(root: Path) -> str:
    start = f"{root} has photographs but no label maps in SegmentationClassAug/"
    if (root / "SegmentationClass").is_dir():
        start += (
            "; its SegmentationClass/ is VOC2012 alone (2,913 label maps) and lacks those of SBD"
        )
    return (
        f"{start}: PASCAL-5i needs the 12,031 label maps of VOC2012 and SBD together, as 8-bit "
        f"PNGs named after their photographs, in {root / 'SegmentationClassAug'}; {_PASCAL_HELP}"
    )


def _coco_folder(root: Path, split: str) -> Path:
    name = f"{split}2014"
    folder = coco_photographs(root, name)
    if folder is None:
        raise DataError(
            f"there is no folder {root / name} with photographs: unpack {name}.zip in {root}; "
            f"{_COCO_HELP}"
        )
    return folder


def _seen(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return f"it holds {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
