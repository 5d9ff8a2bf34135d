"""What a local sweep tells while it goes on, and what it returns at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from merge.errors import INTERRUPTED_EXIT_CODE, IncompleteError, PapergridError, StorageError
from merge.records.records import Cause
from merge.records.sweep import Run
from orchestrator.runs.progress import Progress


class RunOutcome(StrEnum):
    """What became of a selected run."""

    DONE = "done"
    """Its result was made now."""
    ALREADY_DONE = "already done"
    FAILED = "failed"
    REFUSED = "refused"
    """Not started: a record on disk is unreadable or belongs to something else."""
    STORAGE = "storage"
    """The file system refused: try again later."""
    CANCELLED = "cancelled"
    """A person wants it stopped, and started nowhere."""
    INTERRUPTED = "interrupted"
    """Stopped on request; the next attempt goes on from its checkpoint."""
    ELSEWHERE = "running elsewhere"
    NOT_STARTED = "not started"
    """The sweep was stopped before its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    run: Run
    attempt: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgressed:
    run: Run
    attempt: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The last word on a run in this invocation."""

    run: Run
    outcome: RunOutcome
    reason: str = ""
    cause: Cause | None = None
    """Why its attempt ended so, where there was one."""
    value: float | None = None
    """The study's metric, where the run is done."""
    seconds: float | None = None
    """How long the attempt took, where there was one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetried:
    """An attempt failed, and the run is tried again."""

    run: Run
    attempt: int
    """The one that failed."""
    cause: Cause
    reason: str
    wait_s: float
    count: int
    """Which retry after this cause it is, from 1."""
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something a person should know that concerns no run, or no run's outcome."""

    message: str
    run: Run | None = None


RunEvent = RunStarted | RunProgressed | RunEnded | RunRetried | Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalReport:
    """What became of each selected run."""

    endings: Mapping[str, RunEnded]
    """By run_id."""
    was_stopped: bool
    code_of_sync: int = 0
    """Exit code of sending the results to a bucket, where that was asked for."""

    def having(self, *outcomes: RunOutcome) -> tuple[RunEnded, ...]:
        """The runs with one of `outcomes`, in the order in which they ended."""
        return tuple(ending for ending in self.endings.values() if ending.outcome in outcomes)

    @property
    def exit_code(self) -> int:
        """0 all done and sent, 130 interrupted, 75 storage, 1 some failed, 3 incomplete."""
        if len(self.having(RunOutcome.DONE, RunOutcome.ALREADY_DONE)) == len(self.endings):
            return self.code_of_sync
        if self.was_stopped:
            return INTERRUPTED_EXIT_CODE
        if self.having(RunOutcome.STORAGE):
            return StorageError.exit_code
        if self.having(RunOutcome.FAILED, RunOutcome.REFUSED):
            return PapergridError.exit_code
        return IncompleteError.exit_code
