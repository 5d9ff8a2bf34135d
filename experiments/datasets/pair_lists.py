"""HSNet's own lists of PASCAL-5i and COCO-20i, where a person has put them beside the data.

    splits/pascal/trn/fold<i>.txt    pairs of fold i's classes among the training images
    splits/pascal/val/fold<i>.txt    the same among the test images
    splits/coco/trn/fold<i>.pkl      images by class that fold i trains on
    splits/coco/val/fold<i>.pkl      images by class that fold i tests on

A line is `2007_000033__01`: an image and a class id (1-based, as in the label maps). On PASCAL-5i a
fold tests on its own `val` file and trains on the `trn` files of the three others, one after the
other. A pickle holds {class index from 0: ["val2014/COCO_val2014_000000000042.jpg", ...]}.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

from merge.errors import DataError

Pair = tuple[str, int]
"""An image and the id of a class that it counts for."""

_RESTORE = "restore it from HSNet's repository"
_LINE = re.compile(r"(\S+)__(\d{1,3})")


def read_pair_lists(
    folder: Path, split: str, fold: int, folds: Sequence[Sequence[int]]
) -> tuple[Pair, ...]:
    """The pairs of a fold for "train" or "val", in the order of the files.

    DataError where a file is missing, unreadable, empty or lists a class of another fold.
    """
    if split == "val":
        return _read(folder / "val" / f"fold{fold}.txt", folds[fold])
    others = [index for index in range(len(folds)) if index != fold]
    files = [_read(folder / "trn" / f"fold{index}.txt", folds[index]) for index in others]
    return tuple(pair for pairs in files for pair in pairs)


def read_coco_pair_lists(
    folder: Path, split: str, fold: int, folds: Sequence[Sequence[int]]
) -> tuple[Pair, ...]:
    """The pairs of a fold for "train" or "val", by class, the images of each in the list's order.

    DataError where the file is missing, unreadable, of another form, or lacks a class.
    """
    path = folder / ("val" if split == "val" else "trn") / f"fold{fold}.pkl"
    by_class = _read_pickle(path)
    others = (c for index, classes in enumerate(folds) if index != fold for c in classes)
    class_ids = sorted(folds[fold] if split == "val" else others)
    missing = [class_id - 1 for class_id in class_ids if class_id - 1 not in by_class]
    if missing:
        raise DataError(
            f"the pair list {path} has no entry for class {missing[0]} of fold {fold}: {_RESTORE}"
        )
    return tuple(
        (PurePosixPath(name).stem, class_id)
        for class_id in class_ids
        for name in by_class[class_id - 1]
    )


def pair_list_hash(pairs: Iterable[Pair]) -> str:
    """16 hex digits; for a `val` file the beginning of its SHA-256, if its lines end in LF."""
    text = "".join(f"{name}__{class_id:02d}\n" for name, class_id in pairs)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _read(path: Path, class_ids: Sequence[int]) -> tuple[Pair, ...]:
    try:
        lines = _content(path).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"the pair list {path} cannot be read ({error})") from error
    pairs = tuple(
        _pair(line, f"{path}, line {number}", class_ids)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    if not pairs:
        raise DataError(f"the pair list {path} is empty: {_RESTORE}")
    return pairs


def _pair(line: str, place: str, class_ids: Sequence[int]) -> Pair:
    match = _LINE.fullmatch(line.strip())
    if match is None:
        raise DataError(f"{place}: {line!r} is no pair such as 2007_000033__01")
    class_id = int(match[2])
    if class_id not in class_ids:
        listed = ", ".join(str(choice) for choice in class_ids)
        raise DataError(f"{place}: class {class_id} is not one of this fold's ({listed})")
    return match[1], class_id


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(
            f"the pair list {path} is missing: give all of HSNet's lists, trn/ and val/ with "
            f"fold0{path.suffix} to fold3{path.suffix} each, or move {path.parent.parent} away to "
            "have the pairs derived from the label maps"
        ) from error
    except OSError as error:
        raise DataError(f"the pair list {path} cannot be read ({error})") from error


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, texts and numbers alone: a pickle that names a class or function could
    run any code."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and a list needs no code")


def _read_pickle(path: Path) -> dict[int, list[str]]:
    """Images by class index, checked to be that."""
    content = _content(path)
    try:
        found = _PlainUnpickler(io.BytesIO(content)).load()
    # What a damaged pickle raises depends on where it is damaged.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DataError(f"the pair list {path} is not read ({reason}): {_RESTORE}") from error
    if not isinstance(found, dict) or not all(map(_is_entry, found.items())):
        raise DataError(f"the pair list {path} holds no images by class: {_RESTORE}")
    return found


def _is_entry(entry: tuple[object, object]) -> bool:
    class_index, names = entry
    if type(class_index) is not int or not isinstance(names, list):
        return False
    return all(isinstance(name, str) and PurePosixPath(name).stem for name in names)
