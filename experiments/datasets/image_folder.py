"""Image classification in folders: one folder a class, as ImageNet is laid out. No torch.

    <root>/train/<class>/*.JPEG       1,281,167 files of ImageNet in 1,000 folders
    <root>/val/<class>/*.JPEG         or flat, as it is published: flat_images.py

A class is the place of its folder's name among the sorted names, as in torchvision.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from experiments.datasets.flat_images import class_of_each, flat_images
from experiments.datasets.index import Arrays, cached_arrays, files_stamp, index_path
from merge.errors import DataError
from merge.wording import listed

IMAGE_ROOTS = (
    *(".", "imagenet", "ImageNet", "ILSVRC2012", "imagenet-1k", "imagenet1k", "ILSVRC"),
    *("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "imagenet/ILSVRC/Data/CLS-LOC"),
)
"""Where the folders of the splits lie below a data root; the last ones are Kaggle's layout."""
_SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "validation", "valid")}
_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".webp")
_SUFFIX_TEXT = "JPEG, PNG, PPM, BMP or WebP"

# A listing waits for the disk or the file server most of the time.
_NUM_THREADS = 16
_MAX_NAMED = 5

_Listed = list[tuple[str, int]]
"""Names and sizes of the images in one folder."""


class FileNames(Sequence[str]):
    """File names of a data set, kept as bytes in one array.

    A list of 1.3 million texts takes 120 MB in each loader process: counting references writes to
    every one of them, so that the processes share no page of it.
    """

    def __init__(self, text: NDArray[np.uint8]) -> None:
        """`text` is UTF-8 with a line feed after each name."""
        self._text = text
        self._ends = np.flatnonzero(text == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        start = self._ends[place - 1] + 1 if place else 0
        return os.fsdecode(self._text[start : self._ends[place]].tobytes())


@dataclass(frozen=True, slots=False, eq=False)
class ImageFolder:
    """The images of one split and their classes; opened with `read_image_folder`."""

    folder: Path
    """Of the split."""
    classes: tuple[str, ...]
    files: FileNames
    """Below `folder`; sorted by class, then by name."""
    labels: NDArray[np.int64]
    """The place in `classes` of each file."""
    sizes: NDArray[np.int64]
    """Of each file in bytes."""

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return self.folder / self.files[index]

    def num_of_class(self) -> NDArray[np.int64]:
        """How many images each class has."""
        return np.bincount(self.labels, minlength=len(self.classes)).astype(np.int64)

    @property
    def classes_hash(self) -> str:
        """16 hex digits of the classes in their order: what the outputs of a model stand for."""
        names = "\n".join(self.classes).encode("utf-8", "surrogateescape")
        return hashlib.sha256(names).hexdigest()[:16]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of names, classes and sizes; wherever the files lie.

        Sizes, because copies with smaller images are common, and other results come of them.
        """
        sha = hashlib.sha256("\n".join(self.classes).encode("utf-8", "surrogateescape"))
        for array in (self.files._text, self.labels.astype("<i8"), self.sizes.astype("<i8")):
            sha.update(array.tobytes())
        return sha.hexdigest()[:16]


def read_image_folder(root: Path, split: str, cache_dir: Path | None = None) -> ImageFolder:
    """The split "train" or "val" below the data root; no image is opened.

    With `cache_dir` the listing is kept there, and made again when a folder of images has changed:
    on a file server it takes minutes. DataError: there is no such split, or a class has no image.
    """
    folder = find_split(root, split)
    names = _class_folders(folder)
    build: Callable[[], Arrays]
    if names:
        stamp = files_stamp((folder / name for name in names), split)
        build = lambda: _of_folders(folder, names)  # noqa: E731
    else:
        each = class_of_each(folder)
        stamp = files_stamp([folder], split, hashlib.sha256(repr(each).encode()).hexdigest())
        build = lambda: _of_flat_images(folder, each)  # noqa: E731
    if cache_dir is None:
        return _from_arrays(folder, build())
    return _from_arrays(
        folder, cached_arrays(index_path(cache_dir, f"{split}_images", stamp), build)
    )


def read_train_and_val(
    root: Path, cache_dir: Path | None = None
) -> tuple[ImageFolder, ImageFolder]:
    """Both splits. DataError also where they do not have the same classes."""
    train, val = (read_image_folder(root, split, cache_dir) for split in ("train", "val"))
    missing, strange = (
        sorted(set(a.classes) - set(b.classes)) for a, b in ((train, val), (val, train))
    )
    problems = [
        f"{len(names)} classes are only in {only} ({listed(names, _MAX_NAMED)})"
        for names, only in ((missing, train.folder), (strange, val.folder))
        if names
    ]
    if problems:
        raise DataError(
            f"train and val must have the same classes: {'; '.join(problems)}. Take both from the "
            "same data set, or remove those class folders"
        )
    return train, val


def find_split(root: Path, split: str) -> Path:
    """The folder of a split below the data root. DataError says what is there instead."""
    if not root.is_dir():
        raise DataError(
            f"the data root {root} is no folder: name the one that holds train/ and val/"
        )
    names = _SPLIT_FOLDERS[split]
    for place in IMAGE_ROOTS:
        for name in names:
            if (root / place / name).is_dir():
                return Path(os.path.normpath(root / place / name))
    seen = sorted(entry.name for entry in os.scandir(root) if not entry.name.startswith("."))
    there = listed(seen, _MAX_NAMED) if seen else "it is empty"
    raise DataError(
        f"there is no folder {names[0]}/ below {root} ({there}): name the folder that holds train/ "
        "and val/, each with one folder of images a class (docs/data.md)"
    )


def is_image(name: str) -> bool:
    """Whether a file is taken for an image by its name.

    Not `._cat.jpg`: macOS leaves such a file beside each one that it copies to a foreign disk.
    """
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".")


def _class_folders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(
            sorted(e.name for e in entries if not e.name.startswith((".", "__")) and e.is_dir())
        )


def _of_folders(folder: Path, names: Sequence[str]) -> Arrays:
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        found = dict(zip(names, pool.map(lambda name: _images(folder / name), names), strict=True))
    if empty := [name for name, images in found.items() if not images]:
        raise DataError(
            f"{len(empty)} of the {len(names)} classes in {folder} have no image of a kind that is "
            f"read ({_SUFFIX_TEXT}): {listed(empty, _MAX_NAMED)}. Unpack them, or remove their "
            "folders"
        )
    rows = [
        (f"{name}/{file}", place, size)
        for place, name in enumerate(names)
        for file, size in found[name]
    ]
    return _to_arrays(names, rows)


def _of_flat_images(folder: Path, each: Mapping[str, str]) -> Arrays:
    """Of images without class folders, each of the class that a list names for it."""
    images = flat_images(folder, dict(_images(folder)), each)
    names = sorted(set(each.values()))
    place = {name: number for number, name in enumerate(names)}
    rows = sorted(
        ((f, place[each[Path(f).stem]], size) for f, size in images.items()), key=_by_class
    )
    return _to_arrays(names, rows)


def _by_class(row: tuple[str, int, int]) -> tuple[int, str]:
    return row[1], row[0]


def _images(folder: Path) -> _Listed:
    """The images directly in a folder, by name."""
    with os.scandir(folder) as entries:
        found = [(e.name, e.stat().st_size) for e in entries if is_image(e.name) and e.is_file()]
    return sorted(found)


def _to_arrays(classes: Sequence[str], rows: Sequence[tuple[str, int, int]]) -> Arrays:
    return {
        "classes": _as_bytes(classes),
        "files": _as_bytes([name for name, _, _ in rows]),
        "labels": np.array([label for _, label, _ in rows], np.int64),
        "sizes": np.array([size for _, _, size in rows], np.int64),
    }


def _as_bytes(names: Sequence[str]) -> NDArray[np.uint8]:
    # A file name may be any bytes, and hold a line feed.
    if strange := [name for name in names if "\n" in name]:
        raise DataError(f"{strange[0]!r} has a line feed in its name: rename it")
    return np.frombuffer(b"".join(os.fsencode(name) + b"\n" for name in names), np.uint8)


def _from_arrays(folder: Path, arrays: Arrays) -> ImageFolder:
    classes = tuple(FileNames(arrays["classes"]))
    return ImageFolder(
        folder, classes, FileNames(arrays["files"]), arrays["labels"], arrays["sizes"]
    )
