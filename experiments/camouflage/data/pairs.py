"""The images of a split with their masks, by name. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from experiments.camouflage.data.layouts import SplitFolders
from merge.errors import DataError
from merge.storage.json_files import canonical_json

Subset = Literal["cam", "all"]
"""`cam`: images named COD10K-CAM-..., or those that Info/CAM_*.txt lists; `all`: every image."""

_CAMOUFLAGED = "COD10K-CAM-"
_IMAGE_ENDS = (".jpg", ".jpeg", ".png")
_ABOVE = 128
"""Grey values of a mask above it are the object, as the field's evaluation code has it."""


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """One image and its mask."""

    name: str
    image: Path
    mask: Path


def read_pairs(folders: SplitFolders, subset: Subset) -> tuple[Pair, ...]:
    """The pairs of a split, sorted by name. DataError: none, or an image without a mask."""
    images = _files(folders.images, _IMAGE_ENDS)
    names = _chosen(images, folders, subset)
    masks = _files(folders.masks, (".png",))
    if lacking := names - masks.keys():
        raise DataError(
            f"{folders.masks} lacks the masks of {_some(lacking)} of the {len(names):,} images in "
            f"{folders.images}: unpack the data set there again"
        )
    return tuple(Pair(name, images[name], masks[name]) for name in sorted(names))


def fingerprint(pairs: Iterable[Pair]) -> str:
    """16 hex digits of the names and sizes of all files."""
    content = [[p.name, p.image.stat().st_size, p.mask.stat().st_size] for p in pairs]
    return hashlib.sha256(canonical_json(content)).hexdigest()[:16]


def names_hash(pairs: Iterable[Pair]) -> str:
    """16 hex digits of the names in their order."""
    text = "\n".join(pair.name for pair in pairs)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def read_pair(pair: Pair) -> tuple[Image.Image, Image.Image]:
    """Image in RGB and mask in grey. DataError: unreadable, or of two sizes."""
    image, mask = _opened(pair.image, "RGB"), _opened(pair.mask, "L")
    if image.size != mask.size:
        raise DataError(
            f"{pair.image} has {image.size[0]}x{image.size[1]} pixels, its mask {pair.mask} "
            f"{mask.size[0]}x{mask.size[1]}: take both from the same copy of the data set"
        )
    return image, mask


def object_of(mask: Image.Image) -> NDArray[np.bool_]:
    """The pixels of the object, bool HW."""
    return np.asarray(mask) > _ABOVE


def _files(folder: Path, ends: tuple[str, ...]) -> dict[str, Path]:
    # Copies from a Mac have a hidden file `._<name>` beside each file.
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    return {path.stem: path for path in shown if path.suffix.lower() in ends}


def _chosen(images: Collection[str], folders: SplitFolders, subset: Subset) -> set[str]:
    if subset == "all":
        chosen = set(images)
    elif folders.list_file is not None:
        chosen = _listed(folders.list_file)
        if lacking := chosen - set(images):
            raise DataError(
                f"{folders.images} lacks {_some(lacking)} of the {len(chosen):,} images that "
                f"{folders.list_file} lists: unpack the data set there again"
            )
    else:
        chosen = {name for name in images if name.startswith(_CAMOUFLAGED)}
    if not chosen:
        raise DataError(
            f"{folders.images} has {len(images):,} images, and none is named {_CAMOUFLAGED}...: "
            "restore the names of the data set, or take all images with subset=all"
        )
    return chosen


def _listed(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the image list {path} cannot be read ({error})") from error
    return {Path(line.split()[0]).stem for line in lines if line.strip()}


def _opened(path: Path, mode: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read ({error}): restore it from the data set") from error


def _some(names: Collection[str]) -> str:
    first = sorted(names)[:3]
    return f"{len(names):,} ({', '.join(first)}{', ...' if len(names) > len(first) else ''})"
