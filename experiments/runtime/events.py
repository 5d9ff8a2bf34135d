"""Events of a running training: JSON lines and TensorBoard scalars. Only rank 0 writes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from merge.storage.atomic import storage_errors
from merge.storage.disk import open_appending

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Field = str | int | float | bool | None


class EventLog:
    """Appends one JSON object a line to `path`; without a path, events are dropped.

    The file has this one writer. Each line is one write to the operating system, so a reader
    sees whole lines, except that a last one may be cut where the disk was full.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._begun = time.monotonic()
        if path is not None:
            with storage_errors(path):
                self._descriptor = open_appending(path)

    def emit(self, event: str, **fields: Field) -> None:
        """Append {"time": unix seconds, "event": event, ...fields}. StorageError: disk full.

        `elapsed_s` stands last: seconds since this log was opened, by a clock that is never set.
        """
        if self._path is None or self._descriptor is None:
            return
        elapsed_s = round(time.monotonic() - self._begun, 3)
        record = {"time": round(time.time(), 3), "event": event, **fields, "elapsed_s": elapsed_s}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        with storage_errors(self._path):
            os.write(self._descriptor, line.encode("utf-8"))

    def close(self) -> None:
        """Close the file; later events are dropped."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class ScalarLog:
    """TensorBoard scalars in `folder`; tensorboard is imported with the first of them.

    `first_step` is where this attempt begins: points that an earlier attempt wrote at or after
    it are hidden, so that a resumed run shows each step once.
    """

    def __init__(self, folder: Path | None, *, first_step: int) -> None:
        self._folder = folder
        self._first_step = first_step
        self._writer: SummaryWriter | None = None

    def add(self, name: str, value: float, step: int) -> None:
        """Write the value of `name` at optimiser step `step`."""
        if self._folder is None:
            return
        if self._writer is None:
            self._writer = _open_writer(self._folder, self._first_step)
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the file, if there is one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _open_writer(folder: Path, first_step: int) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    with storage_errors(folder):
        return SummaryWriter(str(folder), purge_step=first_step)
