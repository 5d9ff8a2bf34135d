"""Temporary files of writers that were killed: removed once no process can be writing to them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from merge.errors import PapergridError
from merge.storage.atomic import is_temporary
from merge.storage.disk import remove_tree
from merge.storage.nfs import clock_of, fresh_names

LEFT_AFTER_S = 3600.0
"""A writer that lives has changed its file within it: what we write takes seconds."""


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Remove temporary files in `folders`, not below, that are `LEFT_AFTER_S` old.

    Their age is taken by the clock of their file system. What may not be removed stays.
    """
    for folder in folders:
        # Cleaning up is a courtesy: it must not fail the merge or the attempt that does it.
        with suppress(PapergridError, OSError):
            # The clock costs a write into the folder, so it is asked only where there is a
            # candidate.
            found = [folder / name for name in fresh_names(folder) if is_temporary(name)]
            now = clock_of(folder) if found else 0.0
            for path in found:
                if now - path.lstat().st_mtime >= LEFT_AFTER_S:
                    remove_tree(path)
