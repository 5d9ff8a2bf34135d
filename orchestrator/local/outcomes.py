"""The outcome of each run of one local sweep: published at once, kept for the final report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from merge.errors import PapergridError, RecordError, StorageError
from merge.records.elapsed import elapsed_s
from merge.records.records import AttemptRecord, Cause, Outcome
from merge.records.result import Result
from merge.records.sweep import Run
from merge.storage.atomic import refusal_text
from merge.storage.paths import RunPaths
from orchestrator.local.attempt import Attempt
from orchestrator.local.events import (
    LocalReport,
    Notice,
    RunEnded,
    RunEvent,
    RunOutcome,
    RunProgressed,
    RunRetried,
    RunStarted,
)
from orchestrator.local.settle import Ended
from orchestrator.runs.progress import read_progress
from orchestrator.runs.retries import Retry

_log = logging.getLogger(__name__)

_RUN_OUTCOMES = {
    Outcome.DONE: RunOutcome.DONE,
    Outcome.FAILED: RunOutcome.FAILED,
    Outcome.INTERRUPTED: RunOutcome.INTERRUPTED,
    Outcome.LOST: RunOutcome.ELSEWHERE,
}


class OutcomeLog:
    """Makes the events of runs, and the final report."""

    def __init__(self, metric: str, publish: Callable[[RunEvent], object]) -> None:
        self._metric = metric
        self.publish = publish
        self._endings: dict[str, RunEnded] = {}

    @contextmanager
    def boundary(self, run: Run) -> Iterator[None]:
        """An error inside ends `run` with a matching outcome, and no other run."""
        try:
            yield
        # The order matters: StorageError and RecordError are PapergridErrors.
        except StorageError as error:
            self.end(run, RunOutcome.STORAGE, str(error))
        except RecordError as error:
            self.end(run, RunOutcome.REFUSED, str(error))
        except PapergridError as error:
            self.end(run, RunOutcome.FAILED, str(error))
        except OSError as error:
            _log.info("run %s met an error of the system", run.run_id, exc_info=True)
            where = f"{error.filename}: " if error.filename else ""
            self.end(run, RunOutcome.STORAGE, f"{where}{refusal_text(error)}")
        except Exception as error:  # noqa: BLE001
            _log.exception("run %s failed inside the executor", run.run_id)
            self.end(run, RunOutcome.FAILED, f"{type(error).__name__}: {error}")

    def end(self, run: Run, outcome: RunOutcome, reason: str = "") -> None:
        """`run` ends without a new result."""
        self._end(RunEnded(run=run, outcome=outcome, reason=reason))

    def already_done(self, run: Run, result: Result) -> None:
        """`run` had a result before this invocation."""
        value = result.metrics.get(self._metric)
        self._end(RunEnded(run=run, outcome=RunOutcome.ALREADY_DONE, value=value))

    def started(self, attempt: Attempt) -> None:
        """The command of an attempt runs; says so if the attempt before it crashed."""
        record = attempt.record
        self.publish(RunStarted(run=attempt.run, attempt=record.number, devices=record.devices))
        if lost := record.took_over:
            message = (
                f"attempt {lost['attempt']} crashed without a final record ({lost['cause']}): "
            )
            self.notice(f"{message}{lost['reason']}", attempt.run)

    def progressed(self, attempt: Attempt) -> None:
        """Publish how far the trainer is, if that is new."""
        number = attempt.record.number
        progress = read_progress(attempt.paths.attempt(number).events)
        if progress and progress != attempt.shown:
            attempt.shown = progress
            self.publish(RunProgressed(run=attempt.run, attempt=number, progress=progress))

    def report_survivors(self, attempt: Attempt, ended: Ended) -> None:
        """Report processes that could not be killed, if there are any."""
        if ended.survivors:
            ids = ", ".join(map(str, ended.survivors))
            self.notice(f"processes {ids} survive SIGKILL, blocked in the kernel", attempt.run)

    def ended(self, run: Run, paths: RunPaths, ended: Ended, why: str = "") -> RunOutcome:
        """The outcome of `run` after an attempt; after ELSEWHERE the run may still get another one.

        `why` says why a failed run is not tried again; empty where that is obvious.
        """
        record = ended.record
        outcome = _run_outcome(record)
        if outcome is RunOutcome.ELSEWHERE:
            self.notice(record.reason, run)
            return outcome
        self._end(
            RunEnded(
                run=run,
                outcome=outcome,
                reason="; ".join(text for text in (record.reason, why) if text),
                cause=record.cause,
                value=ended.value,
                seconds=elapsed_s(record.started, record.ended, record.seconds),
                log=None if outcome is RunOutcome.DONE else _log_of(paths, record),
            )
        )
        return outcome

    def retried(self, run: Run, paths: RunPaths, ended: Ended, retry: Retry) -> None:
        """An attempt failed, and its `run` is tried again."""
        record = ended.record
        assert record.cause is not None
        self.publish(
            RunRetried(
                run=run,
                attempt=record.number,
                cause=record.cause,
                reason=record.reason,
                log=_log_of(paths, record),
                wait_s=retry.wait_s,
                count=retry.count,
                limit=retry.limit,
            )
        )

    def notice(self, message: str, run: Run | None = None) -> None:
        self.publish(Notice(message=message, run=run))

    def mute(self) -> None:
        """Publish nothing more: publishing may be what failed."""
        self.publish = lambda _: None

    def close(self, *, was_stopped: bool) -> LocalReport:
        return LocalReport(endings=self._endings, was_stopped=was_stopped)

    def _end(self, ending: RunEnded) -> None:
        self._endings[ending.run.run_id] = ending
        self.publish(ending)


def _log_of(paths: RunPaths, record: AttemptRecord) -> Path:
    return paths.attempt(record.number).stderr


def _run_outcome(record: AttemptRecord) -> RunOutcome:
    assert record.outcome is not None
    outcome = _RUN_OUTCOMES[record.outcome]
    if outcome is RunOutcome.FAILED and record.cause is Cause.DISK_FULL:
        return RunOutcome.STORAGE
    if outcome is RunOutcome.INTERRUPTED and record.cause is Cause.CANCELLED:
        return RunOutcome.CANCELLED
    return outcome
