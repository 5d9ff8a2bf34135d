"""The progress of a transfer to or from a bucket: a live line on stderr, or plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from merge.foreign_text import one_line, raw_stream
from merge.wording import size_text

if TYPE_CHECKING:
    from rich.progress import Progress

_PLAIN_INTERVAL_S = 5.0


class Transfers:
    """Counts moved files, and shows them as a line every few seconds."""

    def __init__(self, done: str) -> None:
        self._done = done
        self._num_files = 0
        self._num_bytes = 0
        self._shown_at = time.monotonic()

    def moved(self, name: str, size: int) -> None:
        """One more file, of `size` bytes."""
        self._num_files += 1
        self._num_bytes += size
        self._show(f"{self.text()}, last {name}")

    def text(self) -> str:
        return f"{self._done} {self._num_files} files, {size_text(self._num_bytes)}"

    def _show(self, text: str) -> None:
        if time.monotonic() - self._shown_at >= _PLAIN_INTERVAL_S:
            self._shown_at = time.monotonic()
            print(one_line(text), file=sys.stderr, flush=True)


class _LiveTransfers(Transfers):
    def __init__(self, done: str, progress: Progress) -> None:
        super().__init__(done)
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def _show(self, text: str) -> None:
        # Drawn by the thread of `Progress`, some times a second: files may move much faster.
        self._progress.update(self._task, description=one_line(text))


@contextmanager
def transfers(done: str) -> Iterator[Transfers]:
    """What shows a transfer; `done` says in a word what was done with a file: `sent`, `fetched`."""
    if not sys.stderr.isatty():
        yield Transfers(done)
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    # Without markup: the name of a file may hold brackets.
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    console = Console(file=raw_stream(sys.stderr))
    with Progress(*columns, console=console, transient=True) as progress:
        yield _LiveTransfers(done, progress)
