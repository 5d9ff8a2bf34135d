"""MIT1003 as its authors publish it: folders of JPEG and MATLAB files.

    ALLSTIMULI/<image>.jpeg                    1003 images
    ALLFIXATIONMAPS/<image>_fixPts.jpg         white pixels: the fixations of all observers
    ALLFIXATIONMAPS/<image>_fixMap.jpg         the same, smoothed
    DATA/<observer>/<image>.mat                eye positions at 240 Hz; needed for `observers` only

`points` takes the white pixels, where several fixations in one pixel are one. `observers` finds
fixations in the recordings (see gaze.py): each counts. The folders lie in the data root, or in a
folder MIT1003 or mit1003 of it. Fixations and sizes are indexed once, into the cache folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np

from experiments.datasets.index import Arrays, cached_arrays, files_stamp, index_path
from experiments.saliency.gaze import read_fixations
from experiments.saliency.points import Points, Size
from experiments.saliency.source import Stimulus, check_fixated, decoded, read_file
from merge.errors import DataError

FixationSource = Literal["points", "observers"]

IMAGES, MAPS, RECORDINGS = "ALLSTIMULI", "ALLFIXATIONMAPS", "DATA"
_WHITE = 128
"""A white pixel keeps most of its value in a JPEG, and gives its neighbours less than half."""


@dataclass(frozen=True, slots=True, eq=False)
class FileSource:
    """The images of a folder; each is read when it is asked for."""

    root: Path
    stimuli: Sequence[Stimulus]

    @classmethod
    def open(cls, data_root: Path, cache_dir: Path, fixations: FixationSource) -> Self:
        """DataError: a folder or file is missing; StorageError: the cache cannot be written."""
        root = find_root(data_root)
        images = image_paths(root)
        used = [*images, *(path for image in images for path in _truths(root, image, fixations))]
        stamp = files_stamp(_existing(used), "mit1003", fixations)
        path = index_path(cache_dir, f"mit1003-{fixations}", stamp)
        stimuli = from_arrays(cached_arrays(path, lambda: to_arrays(_read(root, fixations))))
        check_fixated(stimuli, root)
        return cls(root, stimuli)

    def image_file(self, index: int) -> bytes:
        """The image's JPEG file."""
        return read_file(self.root / IMAGES / f"{self.stimuli[index].name}.jpeg")

    def map_file(self, index: int) -> bytes:
        """The JPEG file of the smoothed map."""
        return read_file(self.root / MAPS / f"{self.stimuli[index].name}_fixMap.jpg")


def find_root(data_root: Path) -> Path:
    """The folder that holds ALLSTIMULI. DataError: there is none."""
    for root in (data_root, data_root / "MIT1003", data_root / "mit1003"):
        if (root / IMAGES).is_dir():
            return root
    raise DataError(
        f"{data_root} has no folder {IMAGES}, and neither has its folder MIT1003: "
        "docs/saliency.md says which archives to unpack there"
    )


def image_paths(root: Path) -> list[Path]:
    """All images, sorted by name. DataError: there is none."""
    # Copies from a Mac have a hidden file `._<name>` beside each file.
    found = sorted((root / IMAGES).glob("[!.]*.jpeg"))
    if not found:
        raise DataError(f"{root / IMAGES} holds no *.jpeg")
    return found


def observer_folders(root: Path) -> list[Path]:
    """A folder of recordings for each observer, sorted. DataError: there is none."""
    folder = root / RECORDINGS
    found = sorted(path for path in folder.glob("*") if path.is_dir())
    if not found:
        raise DataError(
            f"{folder} holds no folder of an observer: unpack DATA.zip there, or take the points "
            "of ALLFIXATIONMAPS with --set fixations=points"
        )
    return found


def to_arrays(stimuli: Iterable[Stimulus]) -> Arrays:
    """Stimuli as arrays, for an index or an HDF5 file."""
    rows = list(stimuli)
    text = "".join(f"{row.name}\n" for row in rows).encode("utf-8")
    return {
        "names": np.frombuffer(text, np.uint8),
        "sizes": np.array([row.size for row in rows], np.int32).reshape(-1, 2),
        "fixations": np.concatenate([np.empty((0, 2)), *(row.points for row in rows)]),
        "offsets": np.cumsum([0, *(len(row.points) for row in rows)]),
    }


def from_arrays(arrays: Arrays) -> tuple[Stimulus, ...]:
    """What `to_arrays` was given."""
    names = arrays["names"].tobytes().decode("utf-8").splitlines()
    each = np.split(arrays["fixations"], arrays["offsets"][1:-1])
    sizes: list[Size] = [(int(width), int(height)) for width, height in arrays["sizes"]]
    return tuple(map(Stimulus, names, sizes, each))


def _read(root: Path, fixations: FixationSource) -> Iterator[Stimulus]:
    for image in image_paths(root):
        size = decoded(read_file(image), image.name, "RGB").size
        points = [_points(path, size) for path in _truths(root, image, fixations)]
        yield Stimulus(image.stem, size, np.concatenate(points))


def _truths(root: Path, image: Path, fixations: FixationSource) -> list[Path]:
    """The files that say where people looked on an image."""
    if fixations == "points":
        return [root / MAPS / f"{image.stem}_fixPts.jpg"]
    return [folder / f"{image.stem}.mat" for folder in observer_folders(root)]


def _points(path: Path, size: Size) -> Points:
    if path.suffix == ".mat":
        return read_fixations(path, size)
    white = np.asarray(decoded(read_file(path), path.name, "L")) >= _WHITE
    if white.shape != size[::-1]:
        raise DataError(f"{path} has not the size of its image, {size[0]} x {size[1]} pixels")
    # The middle of each pixel.
    return np.argwhere(white)[:, ::-1].astype(np.float64) + 0.5


def _existing(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_file():
            raise DataError(
                f"{path} is missing: `replicate data verify --datasets mit1003` lists all that is"
            )
        yield path
