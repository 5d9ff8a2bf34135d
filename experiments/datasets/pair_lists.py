"""HSNet's own PASCAL-5i lists, where a person has put them beside the data.

    splits/pascal/trn/fold<i>.txt    pairs of fold i's classes among the training images
    splits/pascal/val/fold<i>.txt    the same among the test images

A line is `2007_000033__01`: an image and a class id (1-based, as in the label maps). A fold tests
on its own `val` file and trains on the `trn` files of the three others, one after the other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from merge.errors import DataError

Pair = tuple[str, int]
"""An image and the id of a class that it counts for."""

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


def pair_list_hash(pairs: Iterable[Pair]) -> str:
    """16 hex digits; for a `val` file the beginning of its SHA-256, if its lines end in LF."""
    text = "".join(f"{name}__{class_id:02d}\n" for name, class_id in pairs)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _read(path: Path, class_ids: Sequence[int]) -> tuple[Pair, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(
            f"the pair list {path} is missing: give all of HSNet's lists, trn/ and val/ with "
            f"fold0.txt to fold3.txt each, or move {path.parent.parent} away to have the pairs "
            "derived from the label maps"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the pair list {path} cannot be read ({error})") from error
    pairs = tuple(
        _pair(line, f"{path}, line {number}", class_ids)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    if not pairs:
        raise DataError(f"the pair list {path} is empty: restore it from HSNet's repository")
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
