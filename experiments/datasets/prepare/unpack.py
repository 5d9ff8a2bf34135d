"""Archives into folders: aside first, counted, made durable, then renamed into place.

Taken are only plain files below one folder of the archive. A member that would leave the archive's
folder, or is a link or a device in the one that is taken, refuses the whole archive.
"""

from __future__ import annotations

import calendar
import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from experiments.datasets.prepare.manifest import Archive
from experiments.datasets.prepare.progress import Progress
from merge.errors import DataError
from merge.storage.atomic import fsync_folder, fsync_tree, storage_errors

_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError),
    NotImplementedError,  # a compression that zipfile does not know
)


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive, by its name below the folder that is taken."""

    name: PurePosixPath
    file: IO[bytes]
    modified_s: float


def unpack(path: Path, archive: Archive, target: Path) -> None:
    """The files of the archive at `path` in `target`; what is already in there stays as it is.

    Until all of it is unpacked, counted and on the disk, `target` is not touched. DataError where
    the archive is damaged, incomplete or unsafe, StorageError where the file system refuses.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    with storage_errors(target):
        # One that was killed leaves it behind; the caller's lock keeps living ones out.
        _remove(unfinished)
        try:
            unfinished.mkdir(parents=True)
            _extract(path, archive, unfinished)
            check_counts(unfinished, archive.holds, path)
            fsync_tree(unfinished)
            _place(unfinished, target)
        finally:
            _remove(unfinished)
        fsync_folder(target.parent)


@contextmanager
def opened(path: Path, inside: str | None) -> Iterator[Iterator[Member]]:
    """The plain files below the folder `inside` of the archive, in its order.

    DataError, also while they are read, where the archive is damaged or unsafe.
    """
    top = PurePosixPath(inside or ".")
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as found:
                yield _zip_members(found, top, path)
        else:
            with _tar_content(path) as content, tarfile.open(fileobj=content, mode="r|") as stream:
                yield _tar_members(stream, top, path)
                # gzip compares its checksum at the very end.
                while content.read(1 << 20):
                    pass
    except _DAMAGE as error:
        raise DataError(
            f"the archive {path} is damaged or cut off ({error}): delete it and run the same "
            "command again"
        ) from error


def check_counts(folder: Path, holds: Mapping[str, int], path: Path) -> None:
    """DataError where a folder below `folder` has fewer or more files than it should."""
    for name, wanted in holds.items():
        part = folder / name
        found = sum(entry.is_file() for entry in part.iterdir()) if part.is_dir() else 0
        if found != wanted:
            raise DataError(
                f"the archive {path} holds {found:,} files for {name}, not {wanted:,}: it is cut "
                "off or another one; delete it and run the same command again"
            )


def _extract(path: Path, archive: Archive, folder: Path) -> None:
    progress = Progress(f"unpacking {path.name}", sum(archive.holds.values()) or None)
    only = frozenset(archive.only)
    missing = set(only)
    with opened(path, archive.inside) as members:
        for member in members:
            if only and str(member.name) not in only:
                continue
            missing.discard(str(member.name))
            _write(member, folder.joinpath(*member.name.parts))
            progress.add(1)
    progress.close()
    if missing:
        raise DataError(f"the archive {path} lacks {', '.join(sorted(missing))}")


def _write(member: Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # A second member of that name would not be the one that was counted.
    with target.open("xb") as file:
        shutil.copyfileobj(member.file, file, 1 << 20)
    # The archive's own time: an index of these files stays good when they are unpacked anew.
    os.utime(target, (member.modified_s, member.modified_s))


def _tar_content(path: Path) -> IO[bytes]:
    # tarfile's own reader of gzip streams does not look at their checksum.
    if path.suffix in {".tgz", ".gz"}:
        return cast("IO[bytes]", gzip.open(path))
    return path.open("rb")


def _tar_members(stream: tarfile.TarFile, top: PurePosixPath, path: Path) -> Iterator[Member]:
    for entry in stream:
        name = _below(entry.name, top, path)
        if name is None or entry.isdir():
            continue
        if not entry.isreg():
            raise _unsafe(path, entry.name, "is a link or a device")
        file = stream.extractfile(entry)
        assert file is not None
        with file:
            yield Member(name, file, entry.mtime)


def _zip_members(found: zipfile.ZipFile, top: PurePosixPath, path: Path) -> Iterator[Member]:
    for entry in found.infolist():
        name = _below(entry.filename, top, path)
        if name is None or entry.is_dir():
            continue
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise _unsafe(path, entry.filename, "is a link or a device")
        if entry.flag_bits & 1:
            raise _unsafe(path, entry.filename, "is encrypted")
        with found.open(entry) as file:
            yield Member(name, file, calendar.timegm((*entry.date_time, 0, 0, 0)))


def _below(text: str, top: PurePosixPath, path: Path) -> PurePosixPath | None:
    """The name below `top`; None for the folder itself and for what lies elsewhere."""
    name = PurePosixPath(text)
    if name.is_absolute() or ".." in name.parts or "\\" in text or "\0" in text:
        raise _unsafe(path, text, "would be written outside of its folder")
    if name == top or not name.is_relative_to(top):
        return None
    return name.relative_to(top)


def _unsafe(path: Path, member: str, reason: str) -> DataError:
    return DataError(
        f"the archive {path} is refused: its member {member!r} {reason}. It is not the published "
        "archive: delete it, and take it from another server (--mirror URL)"
    )


def _place(unfinished: Path, target: Path) -> None:
    if not target.exists():
        unfinished.rename(target)
    elif target.is_dir():
        for child in sorted(unfinished.iterdir()):
            _place(child, target / child.name)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
