"""Where COD10K lies below a data root, in the two layouts that people have on disk.

    COD10K-v3/{Train,Test}/{Image,GT_Object}              as its authors publish it
    COD10K-v3/Info/CAM_{train,test}.txt                   lists of its camouflaged images, if there
    {TrainDataset,TestDataset/COD10K}/{Imgs,GT}           as most public code wants it

The first one also holds images without a camouflaged object, `COD10K-NonCAM-...`; the training
set of the second one also holds those of CAMO. No torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from merge.errors import DataError

SplitName = Literal["train", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "test")

PUBLISHED_COUNTS: dict[SplitName, int] = {"train": 3040, "test": 2026}
"""Images of COD10K with a camouflaged object."""

DOWNLOAD = (
    "COD10K cannot be downloaded by a script: get COD10K-v3.zip by the link on "
    "github.com/DengPingFan/SINet, unpack it, and name the folder that holds COD10K-v3/ with "
    "--data-root DIR (docs/data.md)"
)

_IMAGE_NAMES = ("Image", "Imgs", "Images")
_MASK_NAMES = ("GT_Object", "GT")
_SPLIT_NAMES: dict[str, dict[SplitName, str]] = {
    "COD10K-v3": {"train": "Train", "test": "Test"},
    "TrainDataset": {"train": "TrainDataset", "test": "TestDataset/COD10K"},
}
_ROOTS = ("COD10K/COD10K-v3", "COD/COD10K-v3", "datasets/COD10K-v3")
"""Looked at after the data root and the folders directly in it."""


@dataclass(frozen=True, slots=True)
class SplitFolders:
    """The two folders of a split, and the list of its camouflaged images where there is one."""

    images: Path
    masks: Path
    list_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """One copy of COD10K."""

    name: str
    root: Path
    splits: dict[SplitName, SplitFolders]


def find_cod10k(data_root: Path | None) -> Layout:
    """The copy below `data_root`. DataError says what is missing, and how to get it."""
    if data_root is None:
        raise DataError(f"no data root is named. {DOWNLOAD}")
    if not data_root.is_dir():
        raise DataError(f"the data root {data_root} is no folder. {DOWNLOAD}")
    partial: list[Layout] = []
    for root in _candidates(data_root):
        for name in _SPLIT_NAMES:
            layout = _layout(name, root)
            if layout.splits.keys() == set(SPLITS):
                return layout
            partial += [layout] if layout.splits else []
    if partial:
        raise DataError(_incomplete(partial[0]))
    held = ", ".join(sorted(entry.name for entry in data_root.iterdir())[:6]) or "nothing"
    raise DataError(f"there is no COD10K below {data_root}, which holds {held}. {DOWNLOAD}")


def _candidates(data_root: Path) -> Iterator[Path]:
    yield data_root
    yield from sorted(entry for entry in data_root.iterdir() if entry.is_dir())
    yield from (data_root / name for name in _ROOTS)


def _layout(name: str, root: Path) -> Layout:
    """The layout `name` below `root`, with the splits that are whole."""
    found: dict[SplitName, SplitFolders] = {}
    for split, folder in _SPLIT_NAMES[name].items():
        images = _first(root / folder, _IMAGE_NAMES)
        masks = _first(root / folder, _MASK_NAMES)
        if images is not None and masks is not None:
            found[split] = SplitFolders(images, masks, _list_file(root, folder, split))
    return Layout(name, root, found)


def _first(parent: Path, names: tuple[str, ...]) -> Path | None:
    return next((parent / name for name in names if (parent / name).is_dir()), None)


def _list_file(root: Path, folder: str, split: SplitName) -> Path | None:
    places = itertools.product(
        (root / "Info", root / folder / "Info", root / folder), ("CAM", "cam")
    )
    files = (place / f"{word}_{split}.txt" for place, word in places)
    return next((path for path in files if path.is_file()), None)


def _incomplete(layout: Layout) -> str:
    lacking = next(split for split in SPLITS if split not in layout.splits)
    folder = layout.root / _SPLIT_NAMES[layout.name][lacking]
    return (
        f"{layout.root} holds a part of COD10K alone: there is no {folder} with a folder of images "
        f"({', '.join(_IMAGE_NAMES)}) and one of masks ({', '.join(_MASK_NAMES)}). {DOWNLOAD}"
    )
