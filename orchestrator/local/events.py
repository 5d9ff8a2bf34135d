"""The events of a local sweep while it runs, and the report that it returns at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from merge.errors import INTERRUPTED_EXIT_CODE, IncompleteError, PapergridError, StorageError
from merge.foreign_text import one_line
from merge.records.records import Cause
from merge.records.sweep import Run
from orchestrator.runs.progress import Progress


class RunOutcome(StrEnum):
    """How a selected run ended in this invocation."""

    DONE = "done"
    """This invocation made its result."""
    ALREADY_DONE = "already done"
    FAILED = "failed"
    REFUSED = "refused"
    """Not started: a record on disk is unreadable or belongs to something else."""
    STORAGE = "storage"
    """The file system refused a write: try again later."""
    CANCELLED = "cancelled"
    """A request holds that it is stopped and not started anywhere."""
    INTERRUPTED = "interrupted"
    """Stopped on request; the next attempt continues from its checkpoint."""
    ELSEWHERE = "running elsewhere"
    NOT_STARTED = "not started"
    """The sweep was stopped before its turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """An attempt at a run has started its command."""

    run: Run
    attempt: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgressed:
    """The trainer reported a new epoch, step or loss."""

    run: Run
    attempt: int
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The run has its outcome; no later event of this invocation is about it."""

    run: Run
    outcome: RunOutcome
    reason: str = ""
    cause: Cause | None = None
    """Why its attempt failed or stopped; None where there was no attempt, or it is done."""
    value: float | None = None
    """The study's metric, where the run is done."""
    seconds: float | None = None
    """How long the attempt took, where there was one."""
    log: Path | None = None
    """What the attempt wrote to stderr, where it is not done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetried:
    """An attempt failed, and the run is tried again."""

    run: Run
    attempt: int
    """The one that failed."""
    cause: Cause
    reason: str
    log: Path
    """What that attempt wrote to stderr."""
    wait_s: float
    count: int
    """Which retry after this cause it is, from 1."""
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsCompleted:
    """Results were written since the last event of this kind.

    Published when the free devices have work again, so one event may carry several runs. Work that
    follows from new results (merging, sending) belongs here and not to `RunEnded`: it may take
    longer than the shortest runs.
    """

    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A message for the user that is not the outcome of a run."""

    message: str
    run: Run | None = None


RunEvent = RunStarted | RunProgressed | RunEnded | RunRetried | RunsCompleted | Notice
Listener = Callable[[RunEvent], object]
"""Gets every event, in order, from the thread that schedules the runs."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LocalReport:
    """The outcome of each selected run."""

    endings: Mapping[str, RunEnded]
    """By run_id."""
    was_stopped: bool
    sync_exit_code: int = 0
    """Of sending the results to a bucket; 0 also where nothing was to be sent."""

    def __repr__(self) -> str:
        outcomes = Counter(ending.outcome.value for ending in self.endings.values())
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        failed = self.having(RunOutcome.FAILED, RunOutcome.STORAGE, RunOutcome.REFUSED)
        lines = [f"  {each.run.run_id}: {each.reason}; log {each.log}" for each in failed[:3]]
        more = ["  ..."] if len(failed) > 3 else []
        return one_line(f"<{type(self).__name__}: {counts}>") + "".join(
            f"\n{one_line(line)}" for line in [*lines, *more]
        )

    def having(self, *outcomes: RunOutcome) -> tuple[RunEnded, ...]:
        """The runs with one of `outcomes`, in the order in which they ended."""
        return tuple(ending for ending in self.endings.values() if ending.outcome in outcomes)

    @property
    def exit_code(self) -> int:
        """0 all done and sent, 130 interrupted, 75 storage, 1 some failed, 3 incomplete."""
        # In the order of what a caller must react to: a requested stop is no failure, a full disk
        # can be tried again.
        if len(self.having(RunOutcome.DONE, RunOutcome.ALREADY_DONE)) == len(self.endings):
            return self.sync_exit_code
        if self.was_stopped:
            return INTERRUPTED_EXIT_CODE
        if self.having(RunOutcome.STORAGE):
            return StorageError.exit_code
        if self.having(RunOutcome.FAILED, RunOutcome.REFUSED):
            return PapergridError.exit_code
        return IncompleteError.exit_code
