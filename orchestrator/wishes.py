"""Cancelling and retrying runs of a sweep: which of them, and what was asked for each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.paths import SweepPaths
from merge.records import Cause, Wish
from merge.sweep import Run
from orchestrator.requests import ask
from orchestrator.states import RunState, State, derive_state, read_facts

_HELD = (State.CLAIMED, State.RUNNING, State.STALLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wished:
    """What a wish meant for one run."""

    run_id: str
    was: str
    """Its state when it was looked at; `lost` for a run whose executor died."""
    is_asked: bool
    """Whether a request was written, or would be."""
    note: str


def cancel_runs(
    output: Path, runs: Sequence[Run], *, now: float, is_dry: bool = False
) -> tuple[Wished, ...]:
    """Ask for each of `runs` that it be stopped, and started nowhere. Finished ones are left alone.

    `is_dry` writes nothing. RecordError where a run's requests are unreadable.
    """
    return _wish(output, runs, Wish.CANCEL, _cancelling, (now, is_dry))


def retry_runs(
    output: Path,
    runs: Sequence[Run],
    states: Collection[str],
    *,
    now: float,
    is_dry: bool = False,
) -> tuple[Wished, ...]:
    """Ask that those of `runs` in `states` (failed, lost, cancelled) be run again.

    Their attempts are counted anew. What is in another state is left out of the answer.
    """
    chosen = [run for run in runs if state_name(_state(output, run, now)) in states]
    return _wish(output, chosen, Wish.RETRY, _retrying, (now, is_dry))


def state_name(state: RunState) -> str:
    """The state as a filter names it."""
    return "lost" if state.cause is Cause.LOST else state.state.value


def _wish(
    output: Path,
    runs: Sequence[Run],
    wish: Wish,
    judge: Callable[[RunState], tuple[bool, str]],
    when: tuple[float, bool],
) -> tuple[Wished, ...]:
    now, is_dry = when
    wished = []
    for run in runs:
        state = _state(output, run, now)
        is_asked, note = judge(state)
        if is_asked and not is_dry:
            ask(SweepPaths(output).run(run.path), wish, now=now)
        wished.append(
            Wished(run_id=run.run_id, was=state_name(state), is_asked=is_asked, note=note)
        )
    return tuple(wished)


def _state(output: Path, run: Run, now: float) -> RunState:
    return derive_state(read_facts(output, run), now)


def _cancelling(state: RunState) -> tuple[bool, str]:
    if state.state is State.DONE:
        return False, "it has its result"
    if state.state is State.CANCELLED:
        return False, state.reason
    if state.state in _HELD:
        return True, f"its executor on {state.host} has it write a checkpoint and stop"
    return True, "it is started nowhere"


def _retrying(_state: RunState) -> tuple[bool, str]:
    return True, "its attempts are counted anew"
