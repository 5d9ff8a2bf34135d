"""The merged view on disk: rebuilt from the run folders at any time, under a file lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from merge.collect import collect, refuse_missing_sweep
from merge.combine import Merged, combine
from merge.errors import StorageError, UsageError
from merge.files import storage_errors, write_json
from merge.paths import SweepPaths

_POLL_S = 0.005
_LOCK_TIMEOUT_S = 300.0


def rebuild(output: Path, *, patience_s: float = _LOCK_TIMEOUT_S) -> Merged:
    """Merge the results in `output` into its `replication_results.json`; many may do so at once.

    The lock makes each writer read after the writer before it: a view never loses a result that an
    earlier view had. StorageError where another merge holds it for longer than `patience_s`.
    """
    paths = SweepPaths(output)
    refuse_missing_sweep(output)
    with _lock(paths.merge_lock, patience_s):
        merged = combine({str(output): collect(output)})
        write_json(paths.results, merged.document)
    return merged


def merge_outputs(outputs: Sequence[Path], into: Path) -> Merged:
    """Merge several output folders of one sweep into the file `into` (S3-9).

    UsageError for a folder named twice, ConfigChangedError where their plans differ.
    """
    resolved = [output.resolve() for output in outputs]
    if len(set(resolved)) != len(resolved):
        raise UsageError("an output folder is named twice: name each folder once")
    merged = combine({str(output): collect(output) for output in outputs})
    write_json(into, merged.document)
    return merged


@contextmanager
def _lock(path: Path, patience_s: float) -> Iterator[None]:
    from filelock import FileLock, Timeout

    with storage_errors(path):
        lock = FileLock(path, timeout=patience_s, poll_interval=_POLL_S)
        try:
            lock.acquire()
        except Timeout as error:
            raise StorageError(
                f"{path} has been locked for {patience_s:.0f} s by another merge: "
                f"is a machine that shares this folder hanging?"
            ) from error
    try:
        yield
    finally:
        lock.release()
