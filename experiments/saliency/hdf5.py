"""MIT1003 in one HDF5 file: `mit1003.hdf5`, which `replicate data mit1003-hdf5` makes.

    attributes   format "papergrid-mit1003", version 1, fixations "points" or "observers"
    names        uint8: image names, one a line, UTF-8
    sizes        N x 2 int32: width, height in pixels
    fixations    M x 2 float64: x, y in pixels of the image, those of all images one after the other
    offsets      N + 1 int64: the fixations of image i are offsets[i] to offsets[i + 1]
    images       N byte strings: the JPEG files as they are, so no number depends on the storage
    maps         N byte strings: the JPEG files of the smoothed maps

HDF5's library is not made for processes that share an open file after a fork: they share its
position in the file and may read each other's bytes. So each process opens the file for itself.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from experiments.saliency.files import FileSource, FixationSource, from_arrays, to_arrays
from experiments.saliency.source import Source, Stimulus, check_fixated
from merge.errors import DataError
from merge.storage.atomic import fsync_folder, storage_errors

if TYPE_CHECKING:
    import h5py

FILE_NAME = "mit1003.hdf5"
FORMAT, VERSION = "papergrid-mit1003", 1
_ARRAYS = ("names", "sizes", "fixations", "offsets")


class Hdf5Files:
    """The JPEG files in an HDF5 file; every process that reads opens it for itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self.opened_by: int | None = None
        """The process that holds the file open."""
        _instances.add(self)

    def read(self, kind: str, index: int) -> bytes:
        """One JPEG file. DataError: the HDF5 file is damaged."""
        try:
            content: bytes = self._opened()[kind][index].tobytes()
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise DataError(f"{self.path}: {kind} {index} cannot be read ({error})") from error
        return content

    def _opened(self) -> h5py.File:
        if self._file is None:
            import h5py

            self._file, self.opened_by = h5py.File(self.path, "r"), os.getpid()
        return self._file

    def close(self) -> None:
        """Close the file; the next reading opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = self.opened_by = None

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        # A process that is started anew gets the path alone.
        return type(self), (self.path,)


_instances: weakref.WeakSet[Hdf5Files] = weakref.WeakSet()


def _close_all() -> None:
    for each in tuple(_instances):
        each.close()


# What is closed before the fork cannot be shared after it: parent and child open their own again.
os.register_at_fork(before=_close_all)


@dataclass(frozen=True, slots=True, eq=False)
class Hdf5Source:
    """The images of an HDF5 file; names, sizes and fixations are in memory."""

    files: Hdf5Files
    stimuli: Sequence[Stimulus]

    @classmethod
    def open(cls, path: Path, fixations: FixationSource | None = None) -> Self:
        """DataError: it is not there, no such file, or made of other `fixations`."""
        import h5py

        if not path.is_file():
            raise DataError(
                f"{path} is not there: `replicate data mit1003-hdf5 --data-root {path.parent}` "
                "makes it of the published files"
            )
        try:
            with h5py.File(path, "r") as file:
                _check(file, path, fixations)
                stimuli = from_arrays({name: file[name][()] for name in _ARRAYS})
        except (OSError, KeyError) as error:
            raise DataError(f"{path} is damaged or no HDF5 file ({error})") from error
        check_fixated(stimuli, path)
        return cls(Hdf5Files(path), stimuli)

    def image_file(self, index: int) -> bytes:
        """The image's JPEG file."""
        return self.files.read("images", index)

    def map_file(self, index: int) -> bytes:
        """The JPEG file of the smoothed map."""
        return self.files.read("maps", index)


def convert(source: FileSource, path: Path, fixations: FixationSource) -> None:
    """Write `source` as `path`, whole or not at all. StorageError: the file system refuses."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    with storage_errors(path):
        try:
            _write(source, unfinished, fixations)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        fsync_folder(path.parent)


def _write(source: Source, path: Path, fixations: FixationSource) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "fixations": fixations})
        for name, array in to_arrays(source.stimuli).items():
            file.create_dataset(name, data=array)
        for kind, read in (("images", source.image_file), ("maps", source.map_file)):
            shape = (len(source.stimuli),)
            rows = file.create_dataset(kind, shape, dtype=h5py.vlen_dtype(np.uint8))
            for index in range(len(source.stimuli)):
                rows[index] = np.frombuffer(read(index), np.uint8)


def _check(file: Any, path: Path, fixations: FixationSource | None) -> None:  # noqa: ANN401
    if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
        raise DataError(
            f"{path} is not of the form {FORMAT} {VERSION}: make it again with "
            "`replicate data mit1003-hdf5`"
        )
    if fixations is not None and file.attrs["fixations"] != fixations:
        raise DataError(
            f"{path} holds the fixations of {file.attrs['fixations']!r}, not of {fixations!r}: "
            f"make another with `replicate data mit1003-hdf5 --fixations {fixations}`"
        )
