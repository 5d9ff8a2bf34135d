"""Runs whose start met a failure of the file system that may pass: tried again, a few times."""

from __future__ import annotations

from collections import Counter

from merge.errors import StorageError
from merge.records.sweep import Run
from merge.storage.passing_failures import may_pass

_WAITS_S = (2.0, 10.0, 30.0)
"""A file server that is restarted answers again within a minute."""


class SecondTries:
    """How often the start of each run has met such a failure."""

    def __init__(self) -> None:
        self._num_failures: Counter[str] = Counter()

    def wait_s(self, run: Run, error: StorageError) -> float | None:
        """Seconds until `run` is tried again after `error`; None where that is no use."""
        if not may_pass(error):
            return None
        number = self._num_failures[run.run_id]
        self._num_failures[run.run_id] += 1
        return _WAITS_S[number] if number < len(_WAITS_S) else None
