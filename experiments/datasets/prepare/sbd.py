"""SBD's MATLAB class maps as PNGs, and VOC2012's own label maps over them: SegmentationClassAug.

    .SegmentationClassAug.unfinished/<name>.png    as they are made; kept by an interruption
    .SegmentationClassAug.unfinished/made-from     which archive they are from

Where both label an image VOC2012's map is taken: it alone marks the objects' rims with 255.
"""

from __future__ import annotations

import io
import logging
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from experiments.datasets.labels import Bytes, read_label_map
from experiments.datasets.prepare.manifest import Archive
from experiments.datasets.prepare.progress import Progress
from experiments.datasets.prepare.unpack import Member, opened
from experiments.datasets.shapes import voc_palette
from merge.errors import DataError
from merge.storage.atomic import fsync_folder, fsync_tree, storage_errors

logger = logging.getLogger(__name__)

NUM_CLASSES = 20
_MADE_FROM = "made-from"


def build_label_maps(
    path: Path, archive: Archive, voc_maps: Path, target: Path, num_maps: int | None
) -> None:
    """`target` with a PNG for each label map of the SBD archive at `path` and of `voc_maps`.

    Goes on with what an earlier, interrupted call made of the same archive. DataError where a class
    map cannot be read or there are not `num_maps`, StorageError where the file system refuses.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    with storage_errors(target):
        _begin(unfinished, _identity(path))
        own = {file.stem for file in voc_maps.glob("*.png")}
        _convert_all(path, archive, unfinished, own)
        for name in sorted(own):
            _write(unfinished / f"{name}.png", _copier(voc_maps / f"{name}.png"))
        _check_number(unfinished, num_maps, path)
        (unfinished / _MADE_FROM).unlink()
        fsync_tree(unfinished)
        unfinished.rename(target)
        fsync_folder(target.parent)


def label_map_of(content: bytes, name: str) -> Bytes:
    """The class map uint8 HW of one of SBD's .mat files. DataError where it is none."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(io.BytesIO(content), variable_names=("GTcls",))["GTcls"]
        labels_HW = np.asarray(found[0, 0]["Segmentation"])
    except (MatReadError, ValueError, TypeError, LookupError, zlib.error, OSError) as error:
        raise DataError(f"SBD's {name} has no readable GTcls.Segmentation ({error!r})") from error
    if labels_HW.ndim != 2 or not np.isin(labels_HW, np.arange(NUM_CLASSES + 1)).all():
        raise DataError(f"SBD's {name} is no map of the classes 0 to {NUM_CLASSES}")
    return labels_HW.astype(np.uint8)


def _convert_all(path: Path, archive: Archive, folder: Path, own: set[str]) -> None:
    progress = Progress("converting SBD's class maps", archive.holds.get(".") or None)
    num_found = 0
    with class_maps(path, archive) as members:
        for member in members:
            num_found += 1
            name = member.name.stem
            if name not in own and not _is_made(folder / f"{name}.png"):
                content = member.file.read()
                _write(folder / f"{name}.png", _encoder(label_map_of(content, str(member.name))))
            progress.add(1)
    progress.close()
    wanted = archive.holds.get(".", num_found)
    if num_found != wanted:
        raise DataError(
            f"the archive {path} holds {num_found:,} class maps, not {wanted:,}: it is cut off or "
            "another one; delete it and run the same command again"
        )


@contextmanager
def class_maps(path: Path, archive: Archive) -> Iterator[Iterator[Member]]:
    """The .mat files of the archive, one at a time."""
    with opened(path, archive.inside) as members:
        yield (m for m in members if m.name.suffix == ".mat" and len(m.name.parts) == 1)


def _begin(unfinished: Path, identity: str) -> None:
    mark = unfinished / _MADE_FROM
    if mark.is_file() and mark.read_text("utf-8") == identity:
        logger.info("going on with %s", unfinished)
        return
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    mark.write_text(identity, "utf-8")


def _identity(path: Path) -> str:
    status = path.stat()
    return f"{path.name} {status.st_size} {status.st_mtime_ns}"


def _is_made(path: Path) -> bool:
    # After a power cut a file may be there and be empty: only one that decodes counts.
    if not path.exists():
        return False
    try:
        read_label_map(path, NUM_CLASSES)
    except DataError:
        return False
    return True


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    # Made durable all together at the end: 12,000 single fsyncs would take minutes.
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        write(file)
    temporary.replace(path)


def _encoder(labels_HW: Bytes) -> Callable[[IO[bytes]], object]:
    image = Image.fromarray(labels_HW)
    image.putpalette(voc_palette())
    return lambda file: image.save(file, format="PNG")


def _copier(source: Path) -> Callable[[IO[bytes]], object]:
    return lambda file: file.write(source.read_bytes())


def _check_number(folder: Path, num_maps: int | None, path: Path) -> None:
    for leftover in folder.glob("*.tmp"):
        leftover.unlink()
    found = sum(1 for _ in folder.glob("*.png"))
    if num_maps is not None and found != num_maps:
        raise DataError(
            f"VOC2012's label maps and those of {path} are {found:,} together, not {num_maps:,}: "
            "one of both archives is not the published one"
        )
