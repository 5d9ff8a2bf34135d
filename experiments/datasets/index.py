"""The class index: which classes each image shows, with how many pixels.

Built once and kept in the cache folder, so that choosing the images of a fold opens none of them:

    <cache>/index/<name>-<stamp>.npz     arrays; the stamp is a hash of the indexed files' names,
                                         sizes and times, so a file there is always up to date
    <cache>/index/<name>-<stamp>.lock    held by the one process that builds
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from experiments.datasets.labels import Bytes, class_areas
from merge.errors import DataError, RecordError
from merge.storage.atomic import storage_errors, write_atomic
from merge.storage.json_files import canonical_json

logger = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]

_FORMAT = 1
_may_build: ContextVar[bool] = ContextVar("may_build", default=True)


class NotIndexedError(DataError):
    """A data set has no index yet, and none was to be built."""


@contextmanager
def no_building() -> Iterator[None]:
    """Within, what has no index raises NotIndexedError: building one may take minutes."""
    token = _may_build.set(False)
    try:
        yield
    finally:
        _may_build.reset(token)


@dataclass(frozen=True, slots=True)
class ImageLabels:
    """What the index keeps of one label map: its size in pixels and its classes' pixels."""

    height: int
    width: int
    areas: dict[int, int]

    @classmethod
    def of(cls, labels_HW: Bytes) -> Self:
        height, width = labels_HW.shape
        return cls(height, width, class_areas(labels_HW))


@dataclass(frozen=True, slots=True, eq=False)
class ClassIndex:
    """Names, sizes and class areas of a set of images; as arrays, for COCO has 120,000."""

    names: tuple[str, ...]
    sizes: NDArray[np.int32]
    """N x 2: height, width."""
    areas: NDArray[np.int32]
    """M x 3: image row, class id, pixels; sorted by row."""

    @classmethod
    def build(cls, names: Sequence[str], labels: Iterable[ImageLabels]) -> Self:
        """The index of `names` with their labels, in the same order."""
        found = list(labels)
        sizes = [(entry.height, entry.width) for entry in found]
        areas = [
            (row, class_id, pixels)
            for row, entry in enumerate(found)
            for class_id, pixels in sorted(entry.areas.items())
        ]
        return cls(
            tuple(names),
            np.array(sizes, np.int32).reshape(-1, 2),
            np.array(areas, np.int32).reshape(-1, 3),
        )

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        text = arrays["names"].tobytes().decode("utf-8")
        return cls(tuple(text.splitlines()), arrays["sizes"], arrays["areas"])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        text = "".join(f"{name}\n" for name in self.names).encode("utf-8")
        names = np.frombuffer(text, np.uint8)
        return {"names": names, "sizes": self.sizes, "areas": self.areas}

    def rows(self) -> dict[str, int]:
        """The row of each name."""
        return {name: row for row, name in enumerate(self.names)}

    def class_areas(self) -> dict[str, dict[int, int]]:
        """Pixels by class id, by image; an image without any class is there, and empty."""
        found: dict[str, dict[int, int]] = {name: {} for name in self.names}
        for row, class_id, pixels in self.areas.tolist():
            found[self.names[row]][class_id] = pixels
        return found

    def digest(self) -> str:
        """16 hex digits of the content, wherever the files lie and whenever they were written."""
        sha = hashlib.sha256(canonical_json(list(self.names)))
        sha.update(self.sizes.astype("<i4").tobytes())
        sha.update(self.areas.astype("<i4").tobytes())
        return sha.hexdigest()[:16]


def files_stamp(files: Iterable[Path], *context: str | int) -> str:
    """16 hex digits that change with the files' names, sizes or times, or with `context`."""
    rows: list[list[str | int]] = []
    for path in sorted(files):
        status = path.stat()
        rows.append([path.name, status.st_size, status.st_mtime_ns])
    return hashlib.sha256(canonical_json([_FORMAT, *context, rows])).hexdigest()[:16]


def index_path(cache_dir: Path, name: str, stamp: str) -> Path:
    """Where the index `name` of the files with this stamp is kept."""
    return cache_dir / "index" / f"{name}-{stamp}.npz"


def cached_arrays(path: Path, build: Callable[[], Arrays]) -> Arrays:
    """The arrays at `path`; where it is absent, built and written there by one process only.

    StorageError where the cache cannot be written, RecordError where the file is damaged,
    NotIndexedError within `no_building`; what `build` raises passes through.
    """
    if not path.exists():
        if not _may_build.get():
            raise NotIndexedError(f"there is no {path}: a run makes it")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                if not path.exists():
                    _build(path, build)
    return _load(path)


def damaged(path: Path, reason: object) -> RecordError:
    """The error for a derived file that cannot be used."""
    group = path.with_suffix(".*")
    return RecordError(f"{path} is damaged ({reason}): delete {group}, they are made again")


def _build(path: Path, build: Callable[[], Arrays]) -> None:
    logger.info("indexing the data set; this is done once, into %s", path)
    arrays = build()
    write_atomic(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def _load(path: Path) -> Arrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(path, error) from error
