"""A file system that fails at one operation, or from one on, before or after it has done it.

`FailingDisk` stands in for the disk of single functions; `failing_system` makes the real one of
this process fail below a folder: the operations of `merge.storage.disk` and every `os.open`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.storage.disk import Disk, SystemDisk

ERRNOS = (
    errno.EIO,
    errno.ENOSPC,
    errno.ESTALE,
    errno.EMFILE,
    errno.ETIMEDOUT,
    errno.EDQUOT,
)
_OPERATIONS = (
    *("make_folder", "create", "fsync", "link", "rename", "unlink"),
    *("names", "read", "status", "exists", "revalidate"),
)


@dataclass
class Fault:
    """Which operations fail, counted from 0, and how."""

    number: int
    """The errno."""
    at: int
    is_done: bool = False
    """Whether the operation has its effect before it fails, as where a server's reply is lost."""
    lasts: bool = False
    """Whether all later operations fail, too."""
    count: int = 0
    is_inside: bool = False
    """In an operation that is made of others: they are not counted."""

    @property
    def has_struck(self) -> bool:
        return self.count > self.at

    def around(self, do: Callable[[], Any], path: Path, name: str) -> Any:
        if self.is_inside:
            return do()
        index, self.count = self.count, self.count + 1
        self.is_inside = True
        try:
            if index < self.at or (index > self.at and not self.lasts):
                return do()
            if name == "exists":
                return False
            if self.is_done:
                do()
            raise OSError(self.number, os.strerror(self.number), str(path))
        finally:
            self.is_inside = False


class FailingDisk:
    """Of the seam `merge.storage.disk.Disk`: `disk`, with the faults of `fault`."""

    def __init__(self, disk: Disk, fault: Fault) -> None:
        self._disk = disk
        self._fault = fault

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = getattr(self._disk, name)
        return lambda path, *rest: self._fault.around(lambda: operation(path, *rest), path, name)


@contextmanager
def failing_system(fault: Fault, below: Path) -> Iterator[None]:
    """Make the operations of this process on what is `below` fail as `fault` says."""
    originals = {name: getattr(SystemDisk, name) for name in _OPERATIONS}
    system_open = os.open

    def failing(name: str) -> Callable[..., Any]:
        def operate(disk: SystemDisk, path: Path, *rest: Any) -> Any:
            do = lambda: originals[name](disk, path, *rest)  # noqa: E731
            return fault.around(do, path, name) if _is_below(path) else do()

        return operate

    def open_failing(path: Any, *rest: Any, **named: Any) -> int:
        do = lambda: system_open(path, *rest, **named)  # noqa: E731
        return fault.around(do, path, "open") if _is_below(path) else do()

    def _is_below(path: Any) -> bool:
        return os.fspath(path).startswith(str(below)) if isinstance(path, str | Path) else False

    for name in _OPERATIONS:
        setattr(SystemDisk, name, failing(name))
    os.open = open_failing
    try:
        yield
    finally:
        os.open = system_open
        for name, original in originals.items():
            setattr(SystemDisk, name, original)


def every_fault(lasting: Collection[int] = ERRNOS) -> Iterator[Callable[[int], Fault]]:
    """For each errno and each manner of failing: the fault at the operation of a number.

    Of those in `lasting` also faults that stay.
    """
    for number in ERRNOS:
        for is_done in (False, True):
            for lasts in (False, True) if number in lasting else (False,):
                yield lambda at, number=number, is_done=is_done, lasts=lasts: Fault(
                    number, at, is_done=is_done, lasts=lasts
                )
