"""Cancelling and retrying runs of a sweep: which of them, and what was asked for each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from merge.errors import PapergridError, RecordError, SchedulerError, StorageError
from merge.records.records import Cause, Wish
from merge.records.sweep import Run
from merge.storage.paths import SweepPaths
from orchestrator.runs.requests import ask
from orchestrator.runs.states import LIVE_STATES, RunState, State, read_states


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutcome:
    """What a wish meant for one run."""

    run_id: str
    was: str
    """Its state when it was looked at; `lost` for a run whose executor died."""
    is_asked: bool
    """Whether a request was written, or would be."""
    note: str
    exit_code: int = 0
    """Of the error that kept the request from being written; `note` is its text then."""


def cancel_runs(
    output: Path, runs: Sequence[Run], *, now: float, is_dry: bool = False
) -> tuple[RequestOutcome, ...]:
    """Ask for each of `runs` that it be stopped, and started nowhere. Finished ones are left alone.

    `is_dry` writes nothing.
    """
    found = tuple(zip(runs, read_states(output, runs, now), strict=True))
    return _wish(output, found, Wish.CANCEL, _cancelling, (now, is_dry))


def retry_runs(
    output: Path,
    runs: Sequence[Run],
    states: Collection[str],
    *,
    now: float,
    is_dry: bool = False,
) -> tuple[RequestOutcome, ...]:
    """Ask that those of `runs` in `states` (failed, lost, cancelled) be run again.

    Their attempts are counted anew. What is in another state is left out of the answer.
    """
    found = zip(runs, read_states(output, runs, now), strict=True)
    chosen = [(run, state) for run, state in found if state_name(state) in states]
    return _wish(output, chosen, Wish.RETRY, _retrying, (now, is_dry))


def state_name(state: RunState) -> str:
    """The state as a filter names it."""
    return "lost" if state.cause is Cause.LOST else state.state.value


def _wish(
    output: Path,
    found: Sequence[tuple[Run, RunState]],
    wish: Wish,
    judge: Callable[[RunState], tuple[bool, str]],
    when: tuple[float, bool],
) -> tuple[RequestOutcome, ...]:
    now, is_dry = when
    wished = []
    for run, state in found:
        is_asked, note = judge(state)
        entry = RequestOutcome(
            run_id=run.run_id, was=state_name(state), is_asked=is_asked, note=note
        )
        if is_asked and not is_dry:
            try:
                ask(SweepPaths(output).run(run.path), wish, now=now)
            except (RecordError, StorageError) as error:
                # The others are asked all the same: a person wants them stopped.
                code = error.exit_code
                entry = replace(entry, is_asked=False, exit_code=code, note=str(error))
        wished.append(entry)
    return tuple(wished)


def _cancelling(state: RunState) -> tuple[bool, str]:
    if state.state is State.DONE:
        return False, "it has its result"
    if state.state is State.CANCELLED:
        return False, state.reason
    if state.state in LIVE_STATES:
        return True, f"its executor on {state.host} has it write a checkpoint and stop"
    return True, "it is started nowhere"


def _retrying(_state: RunState) -> tuple[bool, str]:
    return True, "its attempts are counted anew"


class Reacher(Protocol):
    """`cancel_jobs(output, run_ids)`: cancels what it has of these runs, and tells it, a line each.

    A run that it knows nothing of is none of its business. PapergridError where it cannot tell.
    """

    def __call__(self, output: Path, run_ids: Sequence[str], /) -> list[str]: ...


def reachers() -> tuple[Reacher, ...]:
    """All that there are; each is imported here, inside of the function, when it is needed."""
    from orchestrator.servers import control as server_workers
    from orchestrator.slurm import jobs as slurm_sent

    def slurm(output: Path, run_ids: Sequence[str], /) -> list[str]:
        tasks = slurm_sent.cancel_jobs(output, run_ids)
        return [f"SLURM task {task}: cancelled" for task in tasks]

    return (slurm, server_workers.cancel_jobs)


def cancel_everywhere(
    output: Path, run_ids: Sequence[str], ways: Sequence[Reacher] | None = None
) -> list[str]:
    """What every reacher (of `ways`, else all there are) has to tell of its cancelling `run_ids`.

    SchedulerError, after all were asked, where one of them cannot tell.
    """
    told: list[str] = []
    problems: list[str] = []
    for reach in reachers() if ways is None else ways:
        try:
            told += reach(output, run_ids)
        except PapergridError as error:
            problems.append(str(error))
    if problems:
        raise SchedulerError(
            "\n".join(
                [
                    "the runs are marked as cancelled and none of them starts any more, but not "
                    "everything that was sent could be reached; give the same command again:",
                    *problems,
                    *told,
                ]
            )
        )
    return told
