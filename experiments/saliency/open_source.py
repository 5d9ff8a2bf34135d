"""A data set by its name, from files or from HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from experiments.saliency.beacons import ensure_beacons
from experiments.saliency.files import FileSource, FixationSource
from experiments.saliency.hdf5 import FILE_NAME, Hdf5Source
from experiments.saliency.source import Source
from merge.errors import DataError

Dataset = Literal["mit1003", "beacons"]
Storage = Literal["files", "hdf5"]


def open_source(
    dataset: Dataset,
    data_root: Path | None,
    cache_dir: Path,
    *,
    fixations: FixationSource = "points",
    storage: Storage = "files",
) -> Source:
    """The images of `dataset`; `beacons` is generated into `cache_dir` and needs no data root.

    DataError where files are missing or damaged, StorageError where `cache_dir` cannot be written.
    """
    if dataset == "beacons":
        return FileSource.open(ensure_beacons(cache_dir / "generated"), cache_dir, "points")
    if data_root is None:
        raise DataError("mit1003 needs a data root: name its folder with --data-root DIR")
    if storage == "hdf5":
        return Hdf5Source.open(data_root / FILE_NAME, fixations)
    return FileSource.open(data_root, cache_dir, fixations)
