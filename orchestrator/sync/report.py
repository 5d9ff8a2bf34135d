"""What a sync did, counted while many threads do it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Tell = Callable[[str, int], object]
"""Called with the name and the bytes of each file that was moved."""


def tell_nobody(name: str, size: int) -> None:
    """What follows a moved file where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Remark:
    """A file or a run that did not travel as it is, and why."""

    name: str
    reason: str


@dataclass(slots=True, kw_only=True)
class SyncReport:
    """Of one push or pull."""

    moved: dict[str, int] = field(default_factory=dict)
    """Bytes of each file sent or fetched; in a dry run, of those that would be."""
    same: set[str] = field(default_factory=set)
    kept: list[Remark] = field(default_factory=list)
    """Left as they are on both sides, because both changed or another server has them."""
    aside: list[Remark] = field(default_factory=list)
    """Second results of a run: kept beside the first, never counted."""
    problems: list[Remark] = field(default_factory=list)
    """Damaged or unusable."""
    tell: Tell = tell_nobody
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def was_moved(self, name: str, size: int) -> None:
        with self._lock:
            self.moved[name] = size
        self.tell(name, size)

    def is_same(self, name: str) -> None:
        with self._lock:
            self.same.add(name)

    @property
    def num_same(self) -> int:
        """Files that were equal before; those that were sent are looked at once more."""
        return len(self.same - self.moved.keys())

    @property
    def num_bytes(self) -> int:
        return sum(self.moved.values())

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """All that was kept (unless it was moved later), set aside or is damaged, each once."""
        settled = self.same | self.moved.keys()
        kept = [remark for remark in self.kept if remark.name not in settled]
        return tuple(dict.fromkeys([*self.aside, *self.problems, *kept]))

    @property
    def exit_code(self) -> int:
        """0 all is where it should be, 1 something was kept, set aside or is damaged."""
        return 1 if self.kept or self.aside or self.problems else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "moved": [{"file": name, "bytes": size} for name, size in sorted(self.moved.items())],
            "num_same": self.num_same,
            "num_bytes": self.num_bytes,
            **{
                key: [{"file": r.name, "reason": r.reason} for r in remarks]
                for key, remarks in (
                    ("kept", self.kept),
                    ("aside", self.aside),
                    ("problems", self.problems),
                )
            },
        }
