"""Images without class folders, as ImageNet's validation images are published, and their classes.

A list names the class of each: `LOC_val_solution.csv` (Kaggle), or the development kit of
image-net.org, `ILSVRC2012_devkit_t12/`, whose numbers `meta.mat` turns into names of classes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from merge.errors import DataError
from merge.wording import listed

_SOLUTION = "LOC_val_solution.csv"
_DEVKITS = ("ILSVRC2012_devkit_t12", "devkit")
_GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_LEVELS_ABOVE = 5
_MAX_NAMED = 5


def class_of_each(folder: Path) -> dict[str, str]:
    """Image name without suffix -> class, by a list beside or above the folder.

    DataError: there is none, or it cannot be read.
    """
    for path in _places(folder):
        if path.name == _SOLUTION and path.is_file():
            return _read_solution(path)
        if (path / "data" / _GROUND_TRUTH).is_file():
            return _read_devkit(path / "data")
    raise DataError(
        f"{folder} has no folder for each class, and neither {_SOLUTION} nor {_DEVKITS[0]}/ lies "
        "beside it: put the images into folders named by their class, or put one of these two "
        f"into {folder.parent}"
    )


def flat_images(folder: Path, sizes: Mapping[str, int], each: Mapping[str, str]) -> dict[str, int]:
    """The files that the list names, with their sizes; other files do not count.

    DataError: one that is listed is absent.
    """
    by_stem = {Path(name).stem: name for name in sizes}
    if missing := sorted(each.keys() - by_stem.keys()):
        raise DataError(
            f"{len(missing):,} of the {len(each):,} images that are listed for {folder} are not "
            f"there ({listed(missing, _MAX_NAMED)}): unpack all of ILSVRC2012_img_val.tar there"
        )
    return {by_stem[stem]: sizes[by_stem[stem]] for stem in each}


def _places(folder: Path) -> Iterator[Path]:
    for top in folder.absolute().parents[:_LEVELS_ABOVE]:
        yield top / _SOLUTION
        yield from (top / name for name in _DEVKITS)


def _read_solution(path: Path) -> dict[str, str]:
    """Rows such as `ILSVRC2012_val_00048981,n03995372 85 1 499 272`: the class, then boxes."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    found = {row[0]: row[1].split()[0] for row in rows[1:] if len(row) == 2 and row[1].strip()}
    if len(found) != len(rows) - 1 or not found:
        raise DataError(f"{path} is damaged: a row must be an image's name, a comma and its class")
    return found


def _read_devkit(data: Path) -> dict[str, str]:
    """Line n of the list is the number of the class of image n."""
    numbers = (data / _GROUND_TRUTH).read_text(encoding="utf-8").split()
    names = _names_of_numbers(data / "meta.mat")
    if strange := sorted({number for number in numbers if number not in names}):
        raise DataError(
            f"{data / _GROUND_TRUTH} holds {listed(strange, _MAX_NAMED)}, which meta.mat does not "
            "name: unpack ILSVRC2012_devkit_t12.tar.gz again"
        )
    return {f"ILSVRC2012_val_{place:08d}": names[number] for place, number in enumerate(numbers, 1)}


def _names_of_numbers(path: Path) -> dict[str, str]:
    """Number of a class in the development kit -> its name, such as `n02119789`."""
    from scipy.io import loadmat

    try:
        rows = loadmat(path, squeeze_me=True)["synsets"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): unpack ILSVRC2012_devkit_t12.tar.gz again"
        ) from error
    return {str(int(row[0])): str(row[1]) for row in rows}
