"""The end of an attempt: verdict, commit, record, release of the claim."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from merge.errors import PapergridError, StorageError
from merge.records.config_hash import MICRO_BATCH
from merge.records.manifest import BATCH_NORM_ITEMS
from merge.records.records import AttemptRecord, Cause, Outcome
from merge.records.result import Result
from merge.records.sweep import Run, Sweep
from merge.storage.json_files import write_json
from merge.storage.leftovers import remove_leftovers
from merge.storage.passing_failures import repeated
from merge.storage.paths import RunPaths
from orchestrator.local.attempt import Attempt, ExecutorContext
from orchestrator.machine.oom_kills import num_oom_kills
from orchestrator.runs.commit import Aside, TrainerResult, commit_result
from orchestrator.runs.misplaced import misplaced_text, set_misplaced_aside
from orchestrator.runs.training_time import trained_s
from orchestrator.runs.verdict import Verdict, judge

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an attempt ended."""

    record: AttemptRecord
    value: float | None = None
    """The study's metric, where the outcome is done."""
    aside: Aside | None = None
    survivors: tuple[int, ...] = ()
    """Processes that not even SIGKILL has ended yet."""


def finish(context: ExecutorContext, attempt: Attempt) -> Ended:
    """Judge an attempt whose command has ended, commit its result, record it, release its run.

    StorageError where the result could not be written, RecordError where the claims are damaged;
    the claim is released in any case.
    """
    try:
        return _settle(context, attempt)
    finally:
        context.heartbeat.let_go(attempt.claim.token)


def _settle(context: ExecutorContext, attempt: Attempt) -> Ended:
    # First of all: a process that is left over could still write into the folder that is judged
    # now.
    exit_code, survivors = attempt.process.finish()
    paths = attempt.paths.attempt(attempt.claim.number)
    metric = context.sweep.metric
    verdict = _verdict(context, attempt, exit_code)
    # Before the commit, which would find that the run has a result already.
    misplaced = set_misplaced_aside(attempt.paths, attempt.claim.number, is_new=True)
    record = replace(
        attempt.record,
        ended=context.clock.now(),
        exit_code=exit_code,
        outcome=verdict.outcome,
        cause=verdict.cause,
        reason=_reason(verdict, misplaced),
        seconds=round(context.clock.monotonic() - attempt.silence.begun, 3),
    )
    aside = _commit(context, attempt, verdict.result, record) if verdict.result else None
    value = verdict.result.metrics[metric] if verdict.result else None
    record = _as_lost(attempt, record, aside)
    # After the result: a reader that finds a record with "done" must find the result too.
    _write(paths.record, record)
    remove_leftovers(_folders(attempt.paths))
    return Ended(record=record, value=value, aside=aside, survivors=tuple(survivors))


def _verdict(context: ExecutorContext, attempt: Attempt, exit_code: int) -> Verdict:
    try:
        return judge(
            attempt.paths.attempt(attempt.claim.number),
            exit_code,
            context.sweep.metric,
            context.sweep.manifest,
            stop_cause=attempt.stop_cause,
            num_oom_kills=num_oom_kills() - attempt.num_oom_kills,
        )
    # What the trainer left cannot be read now: that says nothing about the trainer.
    except StorageError as error:
        return Verdict(outcome=Outcome.FAILED, cause=Cause.DISK_FULL, reason=str(error))


def _write(path: Path, record: AttemptRecord) -> None:
    try:
        repeated(lambda: write_json(path, record.to_json()))
    except (StorageError, OSError) as error:
        # The result counts, with or without this record of how it was made.
        if record.outcome is not Outcome.DONE:
            raise
        _log.warning("the run is done, but its attempt's record could not be written: %s", error)


def _reason(verdict: Verdict, misplaced: Path | None) -> str:
    if misplaced is None:
        return verdict.reason
    advice = misplaced_text(misplaced)
    if verdict.cause is Cause.NO_RESULT or not verdict.reason:
        return advice
    return f"{verdict.reason}; {advice}"


def _commit(
    context: ExecutorContext, attempt: Attempt, made: TrainerResult, record: AttemptRecord
) -> Aside | None:
    """Commit the result of `attempt`; where a second one was kept aside. Any error is recorded."""
    result = _result(context.sweep, attempt, made, record)
    try:
        return commit_result(
            attempt.paths, attempt.claim, result, context.settings.claims.may_commit
        )
    except (PapergridError, OSError) as error:
        failed = _not_committed(record, error)
        # What is raised is why the result could not be written, not why its record could not.
        with suppress(StorageError, OSError):
            write_json(attempt.paths.attempt(attempt.claim.number).record, failed.to_json())
        raise


def _not_committed(record: AttemptRecord, error: PapergridError | OSError) -> AttemptRecord:
    is_storage = isinstance(error, StorageError | OSError)
    cause = Cause.DISK_FULL if is_storage else Cause.UNKNOWN
    return replace(record, outcome=Outcome.FAILED, cause=cause, reason=str(error))


def _result(sweep: Sweep, attempt: Attempt, made: TrainerResult, record: AttemptRecord) -> Result:
    assert record.ended is not None
    return Result(
        run_id=attempt.run.run_id,
        config_hash=attempt.run.config_hash,
        axes=attempt.run.axes,
        metrics=made.metrics,
        attempt=record.number,
        token=record.token,
        started=record.started,
        finished=record.ended,
        code=record.code,
        details=made.details,
        deviations=_with_effect(sweep, attempt.run, made, record.deviations),
        earlier_code=record.earlier_code,
        trained_s=_trained_s(attempt, record),
    )


def _with_effect(
    sweep: Sweep, run: Run, made: TrainerResult, deviations: Mapping[str, Any]
) -> Mapping[str, Any]:
    """`deviations`, each with whether it changes the number: a micro-batch does by batch norm."""
    deviations = {**deviations, **_of_world_size(made.details.get("world_sizes"))}
    has_batch_norm = BATCH_NORM_ITEMS in made.details or sweep.manifest.has_batch_norm(run.config)
    if MICRO_BATCH not in deviations or not has_batch_norm:
        return deviations
    return {**deviations, MICRO_BATCH: {**deviations[MICRO_BATCH], "changes_number": True}}


def _of_world_size(world_sizes: object) -> Mapping[str, Any]:
    """Of a run that was resumed with another number of ranks: their random streams begin anew."""
    if not isinstance(world_sizes, list) or len(world_sizes) < 2:
        return {}
    first, *others = map(str, world_sizes)
    used = f"{', then '.join(others)} after a resume"
    return {"world_size": {"planned": first, "used": used, "changes_number": True}}


def _trained_s(attempt: Attempt, record: AttemptRecord) -> float:
    return round(trained_s(attempt.paths, range(1, record.number)) + (record.seconds or 0.0), 3)


def _as_lost(attempt: Attempt, record: AttemptRecord, aside: Aside | None) -> AttemptRecord:
    if aside:
        reason = f"{aside.reason}: the result is kept in {aside.path.name}"
        return replace(record, outcome=Outcome.LOST, cause=Cause.LOST, reason=reason)
    # A result that was committed although the claim was lost counts: the exclusive creation decided
    # (decision 1).
    if attempt.has_lost_claim and record.outcome is not Outcome.DONE:
        reason = "another executor took the run over; this attempt was killed"
        return replace(record, outcome=Outcome.LOST, cause=Cause.LOST, reason=reason)
    return record


def _folders(paths: RunPaths) -> Iterator[Path]:
    """Where an earlier attempt at a run, or its executor, may have left half of a file."""
    yield from (paths.root, paths.checkpoints)
    yield from (paths.attempt(number).root for number in paths.claim_numbers())
