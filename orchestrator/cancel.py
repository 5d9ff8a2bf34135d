"""Cancelling and retrying runs of a sweep, wherever they run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from merge.errors import PapergridError, RecordError, SchedulerError, StorageError
from merge.records.records import Cause, RequestAction
from merge.records.sweep import Run
from merge.storage.paths import SweepPaths
from orchestrator.runs.requests import ask
from orchestrator.runs.states import LIVE_STATES, RunState, State, read_states


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutcome:
    """The outcome of a request for one run."""

    run_id: str
    was: str
    """Its state at that moment; `lost` for a run whose executor died."""
    is_asked: bool
    """Whether a request was written, or would be."""
    note: str
    exit_code: int = 0
    """Of the error that kept the request from being written; `note` is its message then."""


def cancel_runs(
    output: Path, runs: Sequence[Run], *, now: float, is_dry: bool = False
) -> tuple[RequestOutcome, ...]:
    """Request for each of `runs` that it is stopped and not started again; finished ones are kept.

    `is_dry` writes nothing.
    """
    found = tuple(zip(runs, read_states(output, runs, now), strict=True))
    return _request(output, found, RequestAction.CANCEL, _cancelling, (now, is_dry))


def retry_runs(
    output: Path,
    runs: Sequence[Run],
    states: Collection[str],
    *,
    now: float,
    is_dry: bool = False,
) -> tuple[RequestOutcome, ...]:
    """Request that those of `runs` in `states` (failed, lost, cancelled) run again.

    Their attempts are counted from zero. Runs in other states are not in the result.
    """
    found = zip(runs, read_states(output, runs, now), strict=True)
    chosen = [(run, state) for run, state in found if state_name(state) in states]
    return _request(output, chosen, RequestAction.RETRY, _retrying, (now, is_dry))


def state_name(state: RunState) -> str:
    """The state as a filter names it."""
    return "lost" if state.cause is Cause.LOST else state.state.value


def _request(
    output: Path,
    found: Sequence[tuple[Run, RunState]],
    action: RequestAction,
    judge: Callable[[RunState], tuple[bool, str]],
    when: tuple[float, bool],
) -> tuple[RequestOutcome, ...]:
    now, is_dry = when
    outcomes = []
    for run, state in found:
        is_asked, note = judge(state)
        entry = RequestOutcome(
            run_id=run.run_id, was=state_name(state), is_asked=is_asked, note=note
        )
        if is_asked and not is_dry:
            try:
                ask(SweepPaths(output).run(run.path), action, now=now)
            except (RecordError, StorageError) as error:
                # One unreadable run must not keep the rest from being stopped.
                code = error.exit_code
                entry = replace(entry, is_asked=False, exit_code=code, note=str(error))
        outcomes.append(entry)
    return tuple(outcomes)


def _cancelling(state: RunState) -> tuple[bool, str]:
    if state.state is State.DONE:
        return False, "it has its result"
    if state.state is State.CANCELLED:
        return False, state.reason
    if state.state in LIVE_STATES:
        return True, f"its executor on {state.host} stops it after a checkpoint"
    return True, "it is not started anywhere"


def _retrying(_state: RunState) -> tuple[bool, str]:
    return True, "its attempts are counted from zero"


class CancelJobs(Protocol):
    """Cancels the jobs that one scheduler has of these runs, and returns a line for each job.

    It ignores runs of which it has no job. PapergridError where it gets no answer.
    """

    def __call__(self, output: Path, run_ids: Sequence[str], /) -> list[str]: ...


def schedulers(*, kill: bool = False) -> tuple[CancelJobs, ...]:
    """All that there are: SLURM, and the workers on servers. `kill`: SLURM ends running tasks."""
    from orchestrator.servers import silent
    from orchestrator.slurm.cancel import cancel_tasks

    def slurm(output: Path, run_ids: Sequence[str], /) -> list[str]:
        tasks = cancel_tasks(output, run_ids, kill=kill)
        return [
            *(f"SLURM task {task}: cancelled" for task in tasks.ended),
            *(
                f"SLURM task {task}: running; it stops after a checkpoint, within {left_s:.0f} s; "
                f"after that the same command ends it, with --kill at once"
                for task, left_s in tasks.stopping.items()
            ),
            *(
                f"{count} SLURM tasks are not shown here ({reason}): those that run stop by the "
                f"request, those that wait start none of these runs"
                for reason, count in Counter(tasks.hidden.values()).items()
            ),
        ]

    return (slurm, silent.cancel_jobs)


def cancel_everywhere(
    output: Path,
    run_ids: Sequence[str],
    ways: Sequence[CancelJobs] | None = None,
    *,
    kill: bool = False,
) -> list[str]:
    """Cancel the jobs of `run_ids` in every scheduler (`ways`, else all); a line for each job.

    With `kill` tasks that SLURM runs are ended at once, without time for a checkpoint.
    SchedulerError, after all were asked, where one of them gave no answer.
    """
    notes: list[str] = []
    problems: list[str] = []
    for cancel_jobs in schedulers(kill=kill) if ways is None else ways:
        try:
            notes += cancel_jobs(output, run_ids)
        except PapergridError as error:
            problems.append(str(error))
    if problems:
        raise SchedulerError(
            "\n".join(
                [
                    "the runs are marked as cancelled and none of them starts any more, but not "
                    "all jobs that were sent could be cancelled; give the same command again:",
                    *problems,
                    *notes,
                ]
            )
        )
    return notes
