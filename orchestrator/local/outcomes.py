"""What became of each run of one local sweep: told at once, kept for the report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from merge.errors import PapergridError, RecordError, StorageError
from merge.records.records import AttemptRecord, Cause, Outcome
from merge.records.result import Result
from merge.records.sweep import Run
from orchestrator.local.attempt import Attempt
from orchestrator.local.events import (
    LocalReport,
    Notice,
    RunEnded,
    RunEvent,
    RunOutcome,
    RunRetried,
    RunStarted,
)
from orchestrator.local.settle import Ended
from orchestrator.runs.retries import Again

_log = logging.getLogger(__name__)

_RUN_OUTCOMES = {
    Outcome.DONE: RunOutcome.DONE,
    Outcome.FAILED: RunOutcome.FAILED,
    Outcome.INTERRUPTED: RunOutcome.INTERRUPTED,
    Outcome.LOST: RunOutcome.ELSEWHERE,
}


class OutcomeLog:
    """Turns what happens to runs into events for `report`, and into the final report."""

    def __init__(self, metric: str, report: Callable[[RunEvent], None]) -> None:
        self._metric = metric
        self.report = report
        self._endings: dict[str, RunEnded] = {}

    @contextmanager
    def boundary(self, run: Run) -> Iterator[None]:
        """Whatever goes wrong inside ends `run`, and no other run."""
        try:
            yield
        except StorageError as error:
            self.end(run, RunOutcome.STORAGE, str(error))
        except RecordError as error:
            self.end(run, RunOutcome.REFUSED, str(error))
        except PapergridError as error:
            self.end(run, RunOutcome.FAILED, str(error))
        except Exception as error:  # noqa: BLE001
            _log.exception("run %s failed inside the executor", run.run_id)
            self.end(run, RunOutcome.FAILED, f"{type(error).__name__}: {error}")

    def end(self, run: Run, outcome: RunOutcome, reason: str = "") -> None:
        """The last word on `run` where it is no result."""
        self._tell(RunEnded(run=run, outcome=outcome, reason=reason))

    def already_done(self, run: Run, result: Result) -> None:
        value = result.metrics.get(self._metric)
        self._tell(RunEnded(run=run, outcome=RunOutcome.ALREADY_DONE, value=value))

    def started(self, attempt: Attempt) -> None:
        record = attempt.record
        self.report(RunStarted(run=attempt.run, attempt=record.number, devices=record.devices))
        if lost := record.took_over:
            message = f"attempt {lost['attempt']} ended without a word ({lost['cause']}): "
            self.notice(f"{message}{lost['reason']}", attempt.run)

    def survived(self, attempt: Attempt, ended: Ended) -> None:
        """Tell of processes that could not be ended, where there are any."""
        if ended.survivors:
            ids = ", ".join(map(str, ended.survivors))
            self.notice(f"processes {ids} survive SIGKILL, blocked in the kernel", attempt.run)

    def ended(self, attempt: Attempt, ended: Ended, why_no_more: str = "") -> RunOutcome:
        """The outcome of an attempt's run; ELSEWHERE is no last word yet.

        `why_no_more` says why a failed run is not tried again, where that needs saying.
        """
        run, record = attempt.run, ended.record
        outcome = _run_outcome(record)
        if outcome is RunOutcome.ELSEWHERE:
            self.notice(record.reason, run)
            return outcome
        seconds = None if record.ended is None else record.ended - record.started
        self._tell(
            RunEnded(
                run=run,
                outcome=outcome,
                reason="; ".join(text for text in (record.reason, why_no_more) if text),
                cause=record.cause,
                value=ended.value,
                seconds=seconds,
            )
        )
        return outcome

    def retried(self, attempt: Attempt, ended: Ended, again: Again) -> None:
        """An attempt failed, and its run is tried again."""
        record = ended.record
        assert record.cause is not None
        self.report(
            RunRetried(
                run=attempt.run,
                attempt=record.number,
                cause=record.cause,
                reason=record.reason,
                wait_s=again.wait_s,
                count=again.count,
                limit=again.limit,
            )
        )

    def notice(self, message: str, run: Run | None = None) -> None:
        self.report(Notice(message=message, run=run))

    def mute(self) -> None:
        """Tell nobody any more: what is told may be what failed."""
        self.report = lambda _: None

    def close(self, *, was_stopped: bool) -> LocalReport:
        return LocalReport(endings=self._endings, was_stopped=was_stopped)

    def _tell(self, ending: RunEnded) -> None:
        self._endings[ending.run.run_id] = ending
        self.report(ending)


def _run_outcome(record: AttemptRecord) -> RunOutcome:
    assert record.outcome is not None
    outcome = _RUN_OUTCOMES[record.outcome]
    if outcome is RunOutcome.FAILED and record.cause is Cause.DISK_FULL:
        return RunOutcome.STORAGE
    if outcome is RunOutcome.INTERRUPTED and record.cause is Cause.CANCELLED:
        return RunOutcome.CANCELLED
    return outcome
