"""Prepare a data set: get its archives, make its parts, build its index. One process at a time.

    <data root>/archives/            archives and parts of them; put there by hand, or downloaded
    <data root>/.<dataset>.lock      held by the one process that makes parts

A data root that is complete is only read: it may be read-only.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.datasets.prepare.download import Patience, addresses, download, receipt
from experiments.datasets.prepare.integrity import mismatch
from experiments.datasets.prepare.manifest import Archive, DatasetManifest, Manifest
from experiments.datasets.prepare.steps import Step, missing_steps
from experiments.fewshot.episodes.source import open_source
from merge.errors import DataError, StorageError
from merge.storage.atomic import storage_errors
from merge.wording import size_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted of `prepare`."""

    data_root: Path | None
    cache_dir: Path
    manifest: Manifest
    mask_variants: Sequence[str] = ("exact",)
    may_download: bool = False
    mirrors: Sequence[str] = ()
    keeps_archives: bool = False
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was done: the parts made, with their archives, and the content's fingerprints."""

    dataset: str
    made: tuple[Mapping[str, str], ...]
    fingerprints: Mapping[str, str]
    """By mask variant."""


def prepare(dataset: str, request: Request) -> Prepared:
    """Make `dataset` usable, its index too. Errors name what is missing and the fix."""
    made = () if dataset == "shapes5i" else _make_parts(dataset, request)
    variants = request.mask_variants if dataset == "coco20i" else ("exact",)
    indexed = {}
    for variant in variants:
        source = open_source(dataset, request.data_root, request.cache_dir, variant)
        indexed[source.mask_variant] = source.fingerprint()
    return Prepared(dataset, made, indexed)


def _make_parts(dataset: str, request: Request) -> tuple[Mapping[str, str], ...]:
    root = request.data_root
    if root is None:
        raise DataError(f"{dataset} needs a data root: name its folder with --data-root DIR")
    manifest = request.manifest.of(dataset)
    if not missing_steps(dataset, root, manifest):
        return ()
    if not root.is_dir():
        # Nothing can be made: then no folder of that name is made either.
        _check_obtainable(dataset, missing_steps(dataset, root, manifest), manifest, request)
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    with _alone(dataset, root):
        # Another process may have made all of it while this one waited for the lock.
        steps = missing_steps(dataset, root, manifest)
        _check_obtainable(dataset, steps, manifest, request)
        _check_space(steps, root, keeps_archives=request.keeps_archives)
        return tuple(_make(step, root, request) for step in steps)


def _make(step: Step, root: Path, request: Request) -> Mapping[str, str]:
    path = root / "archives" / step.archive.file
    if path.is_file():
        _check_archive(path, step.archive)
    else:
        urls = addresses(step.archive, request.mirrors)
        with storage_errors(path):
            path.parent.mkdir(exist_ok=True)
        download(step.archive, path.parent, urls, request.patience)
    step.run(path)
    logger.info("%s is ready", step.makes)
    if receipt(path).is_file() and not request.keeps_archives:
        with storage_errors(path):
            path.unlink()
            receipt(path).unlink()
    return {"part": str(step.makes), "archive": step.archive.file}


@contextmanager
def _alone(dataset: str, root: Path) -> Iterator[None]:
    path = root / f".{dataset}.lock"
    with storage_errors(path):
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("another process prepares %s below %s; waiting for it", dataset, root)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_obtainable(
    dataset: str, steps: Sequence[Step], manifest: DatasetManifest, request: Request
) -> None:
    root = request.data_root
    assert root is not None
    absent = [step for step in steps if not (root / "archives" / step.archive.file).is_file()]
    if request.may_download or not absent:
        return
    lines = [
        f"  {step.makes}: needs {step.archive.file}{_size_note(step.archive)}"
        + "".join(f"\n      {url}" for url in step.archive.urls)
        for step in absent
    ]
    raise DataError(
        "\n".join(
            [
                f"{dataset} is not complete below {root}; missing are",
                *lines,
                "  add --download to get them, or put these files unchanged into "
                f"{root / 'archives'} and run `replicate prepare` again",
                f"  terms: {manifest.licence}",
            ]
        )
    )


def _size_note(archive: Archive) -> str:
    return "" if archive.bytes is None else f" ({size_text(archive.bytes)})"


def _check_archive(path: Path, archive: Archive) -> None:
    logger.info("checking %s", path)
    difference = mismatch(path, archive)
    if difference is not None:
        raise DataError(
            f"{path} is not the published archive: {difference}. Delete it (a download that was "
            "cut off looks like this), then run the same command again"
        )


def _check_space(steps: Sequence[Step], root: Path, *, keeps_archives: bool) -> None:
    unpacked = sum(step.archive.unpacked_bytes for step in steps)
    to_come = [_bytes_to_come(step.archive, root) for step in steps]
    needed = unpacked + (sum(to_come) if keeps_archives else max(to_come, default=0))
    free = shutil.disk_usage(root).free
    if needed > free:
        raise StorageError(
            f"{root} has {size_text(free)} free, but {size_text(needed)} are needed "
            f"({size_text(unpacked)} of them for unpacked files): free some space or choose "
            "another --data-root"
        )


def _bytes_to_come(archive: Archive, root: Path) -> int:
    path = root / "archives" / archive.file
    if path.is_file():
        return 0
    part = path.with_name(f"{path.name}.part")
    return max(0, (archive.bytes or 0) - (part.stat().st_size if part.is_file() else 0))
