"""What a sync did, counted from many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

OnTransfer = Callable[[str, int], object]
"""Called with the name and the size in bytes of each transferred file."""


def ignore_transfer(name: str, size: int) -> None:
    """An OnTransfer that does nothing."""


@dataclass(frozen=True, slots=True)
class SyncIssue:
    """A file or a run that was not synced as it is, and why."""

    name: str
    reason: str


@dataclass(slots=True, kw_only=True)
class SyncReport:
    """The outcome of one push or pull. Safe for many threads."""

    transferred: dict[str, int] = field(default_factory=dict)
    """Bytes of each file sent or fetched; in a dry run, of those that would be."""
    unchanged: set[str] = field(default_factory=set)
    kept: list[SyncIssue] = field(default_factory=list)
    """Left as they are on both sides, because both changed or another server has the run."""
    aside: list[SyncIssue] = field(default_factory=list)
    """Second results of a run: kept beside the first, never counted."""
    problems: list[SyncIssue] = field(default_factory=list)
    """Damaged or unusable."""
    on_transfer: OnTransfer = ignore_transfer
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_transferred(self, name: str, size: int) -> None:
        """Count a file of `size` bytes as transferred."""
        with self._lock:
            self.transferred[name] = size
        self.on_transfer(name, size)

    def add_unchanged(self, name: str) -> None:
        """Count a file as equal on both sides."""
        with self._lock:
            self.unchanged.add(name)

    @property
    def num_unchanged(self) -> int:
        """Files that were equal before: without those sent, which are compared once more."""
        return len(self.unchanged - self.transferred.keys())

    @property
    def num_bytes(self) -> int:
        """Bytes of all transferred files."""
        return sum(self.transferred.values())

    @property
    def issues(self) -> tuple[SyncIssue, ...]:
        """All that was kept (unless it was synced later), set aside or is damaged, each once."""
        settled = self.unchanged | self.transferred.keys()
        kept = [issue for issue in self.kept if issue.name not in settled]
        return tuple(dict.fromkeys([*self.aside, *self.problems, *kept]))

    @property
    def exit_code(self) -> int:
        """0: everything is synced. 1: something was kept, set aside or is damaged."""
        return 1 if self.kept or self.aside or self.problems else 0

    def to_json(self) -> dict[str, Any]:
        """What `replicate sync --json` prints."""
        files = sorted(self.transferred.items())
        return {
            "moved": [{"file": name, "bytes": size} for name, size in files],
            "num_same": self.num_unchanged,
            "num_bytes": self.num_bytes,
            **issues_to_json({"kept": self.kept, "aside": self.aside, "problems": self.problems}),
        }


def issues_to_json(groups: dict[str, list[SyncIssue]]) -> dict[str, list[dict[str, str]]]:
    """Each group of issues as JSON objects."""
    return {
        key: [{"file": issue.name, "reason": issue.reason} for issue in issues]
        for key, issues in groups.items()
    }
