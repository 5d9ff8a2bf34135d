"""Decoded images in memory that loader processes share: each is read once, by whichever needs it.

The memory is anonymous, so it needs no room in /dev/shm, and processes share it when they are
forked after it was made. Pages that hold no image take no memory.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from experiments.datasets.labels import Bytes

Pair = tuple[Bytes, Bytes]
"""A photograph, uint8 HW3, and its label map, uint8 HW."""

_EMPTY, _BEING_WRITTEN, _READY = range(3)
_LOCK_TIMEOUT_S = 10.0


class SharedImages:
    """Photographs with their label maps, kept as long as they fit.

    There is no eviction: a pass over more images than fit would evict each before its next use.
    """

    def __init__(
        self, names: Iterable[str], read: Callable[[str], Pair], *, max_bytes: int
    ) -> None:
        """`names` are the images that may be asked for; `read` decodes one."""
        self._read = read
        self._rows = {name: row for row, name in enumerate(names)}
        self._pixels = mmap.mmap(-1, max_bytes)
        # State, beginning in the pixels, height and width of each image; then the bytes in use.
        self._table = np.frombuffer(mmap.mmap(-1, 8 * (4 * len(self._rows) + 1)), np.int64)
        self._slots, self._used = self._table[:-1].reshape(-1, 4), self._table[-1:]
        self._lock = multiprocessing.get_context("fork").Lock()

    def read(self, name: str) -> Pair:
        """The image `name`, read-only arrays. Raises what reading raises."""
        row = self._rows[name]
        if (kept := self._kept(row)) is not None:
            return kept
        image_HW3, labels_HW = self._read(name)
        self._keep(row, image_HW3, labels_HW)
        return image_HW3, labels_HW

    def _kept(self, row: int) -> Pair | None:
        with self._locked() as is_mine:
            state, start, height, width = self._slots[row].tolist()
        if not is_mine or state != _READY:
            return None
        image_HW3 = self._array(start, (height, width, 3))
        return image_HW3, self._array(start + image_HW3.size, (height, width))

    def _keep(self, row: int, image_HW3: Bytes, labels_HW: Bytes) -> None:
        size = image_HW3.size + labels_HW.size
        with self._locked() as is_mine:
            start = int(self._used[0])
            if not is_mine or self._slots[row, 0] != _EMPTY or start + size > len(self._pixels):
                return
            self._used[0] += size
            self._slots[row] = (_BEING_WRITTEN, start, *labels_HW.shape)
        # Outside of the lock: others read meanwhile, and none reads this image before it is ready.
        self._pixels[start : start + size] = image_HW3.tobytes() + labels_HW.tobytes()
        with self._locked() as is_mine:
            if is_mine:
                self._slots[row, 0] = _READY

    def _array(self, start: int, shape: tuple[int, ...]) -> Bytes:
        found = np.frombuffer(self._pixels, np.uint8, math.prod(shape), start).reshape(shape)
        found.flags.writeable = False
        return found

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """Whether the table is ours; not after a process that had it was killed."""
        is_mine = self._lock.acquire(timeout=_LOCK_TIMEOUT_S)
        try:
            yield is_mine
        finally:
            if is_mine:
                self._lock.release()
