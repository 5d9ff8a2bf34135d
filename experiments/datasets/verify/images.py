"""Looking at many image files at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from experiments.datasets.labels import read_photograph
from experiments.datasets.prepare.progress import Progress
from merge.errors import DataError

# Pillow releases the GIL while it decodes and while it waits for a disk.
_NUM_THREADS = 4

T = TypeVar("T")
R = TypeVar("R")


def each(what: str, look: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """`look(item)` of every item, in order, several at once, with progress."""
    progress = Progress(f"checking {what}", len(items))
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for result in pool.map(look, items):
            yield result
            progress.add(1)
    progress.close()


def photograph_size(path: Path, *, is_deep: bool) -> tuple[int, int]:
    """Height and width; from the file's head, or from all of it. DataError: it is unreadable."""
    if is_deep:
        height, width, _ = read_photograph(path).shape
        return height, width
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError as error:
        raise DataError(f"photograph {path} cannot be read ({error})") from error
