"""Several processes rebuild one file from many: the last writer must have read all of them.

On a local file system a native lock ensures that. On a shared one such a lock may not exclude other
hosts (NFS 3 with `nolock`, sshfs) or may not exist (ENOLCK). There the inputs are listed again
after the write, and the file is written again while new inputs have arrived.
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

# A merge of a small sweep takes milliseconds; the library's own interval of 50 ms would be most of
# the wait.
_POLL_S = 0.005
# A restarted NFS server grants no lock for up to 90 s (docs/shared-folders.md).
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
    """Call `do` while this process holds `lock`; returns what `do` returned last.

    On a shared file system `do` is repeated until `seen()` returns the same before and after it.
    `seen` returns what `do` reads from, such as the names of results. `is_local` says whether the
    lock excludes all writers; None looks at the mount. StorageError where another process holds
    `lock` for longer than `patience_s` seconds.
    """
    with _native_lock(lock, patience_s):
        if mount_of(lock).is_local if is_local is None else is_local:
            return do()
        while True:
            # Listed before `do` reads, not after: a result that arrives in between makes one more
            # round; in the other order it could be missed.
            before = seen()
            done = do()
            if seen() == before:
                return done


@contextmanager
def _native_lock(path: Path, patience_s: float) -> Iterator[None]:
    # Imported here: `replicate --help` and `status` must not load it.
    from filelock import FileLock, Timeout

    make_folder(path.parent)
    with storage_errors(path):
        # `fallback_to_soft=False`: a soft lock of a killed process was never released on NFS
        # (decision 2).
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
            # Continues without a lock: the check of `exclusively` is what holds on such a mount.
            _log.info("%s: no native locks here (%s); what is written is checked", path, error)
    try:
        yield
    finally:
        lock.release()
