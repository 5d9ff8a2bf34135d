"""Many may write one file that is made from others: the last to write must have read everything.

On a local file system a native lock sees to that. On a shared one such a lock may exclude nobody on
other hosts (NFS 3 with `nolock`, sshfs) or not exist (ENOLCK): there what was written is checked
afterwards, and written again while there is news.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from merge.errors import StorageError
from merge.storage.atomic import make_folder, storage_errors
from merge.storage.mounts import mount_of

_POLL_S = 0.005
LOCK_PATIENCE_S = 300.0
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})

_log = logging.getLogger(__name__)
_Done = TypeVar("_Done")


def exclusively(
    lock: Path,
    do: Callable[[], _Done],
    seen: Callable[[], object],
    *,
    is_local: bool | None = None,
    patience_s: float = LOCK_PATIENCE_S,
) -> _Done:
    """Do `do` with nobody else doing it, where `lock` can tell; until `seen()` stays the same.

    `seen` tells what `do` reads from, such as the names of results. It is asked on shared file
    systems
    only; `is_local` is found out unless it is said. StorageError where `lock` is held for
    longer than `patience_s`.
    """
    with _native_lock(lock, patience_s):
        if mount_of(lock).is_local if is_local is None else is_local:
            return do()
        while True:
            before = seen()
            done = do()
            if seen() == before:
                return done


@contextmanager
def _native_lock(path: Path, patience_s: float) -> Iterator[None]:
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    with storage_errors(path):
        lock = FileLock(path, timeout=patience_s, poll_interval=_POLL_S, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"{path} has been locked for {patience_s:.0f} s by another merge: "
                f"is a machine that shares this folder hanging?"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _log.info("%s: no native locks here (%s); what is written is checked", path, error)
    try:
        yield
    finally:
        lock.release()
