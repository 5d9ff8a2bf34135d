"""Data sets that papergrid draws itself, made once in the cache folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from merge.storage.atomic import fsync_folder, fsync_tree, storage_errors


def ensure_generated(root: Path, write: Callable[[Path], None]) -> Path:
    """`root`, filled by `write` where it is absent.

    Built aside under a lock and renamed into place, so a reader never sees a part of it.
    StorageError where the file system refuses.
    """
    if root.is_dir():
        return root
    with storage_errors(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.with_name(f".{root.name}.lock")):
            if not root.is_dir():
                _build(root, write)
    return root


def _build(root: Path, write: Callable[[Path], None]) -> None:
    unfinished = root.with_name(f".{root.name}.unfinished")
    # Only one killed before its rename leaves it behind: the lock keeps living builders out.
    if unfinished.exists():
        shutil.rmtree(unfinished)
    try:
        write(unfinished)
        fsync_tree(unfinished)
        unfinished.rename(root)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    fsync_folder(root.parent)
