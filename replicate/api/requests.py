"""Cancelling and retrying runs, and stopping workers on servers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from merge.records.sweep import Run

if TYPE_CHECKING:
    from orchestrator.cancel import RequestOutcome
    from orchestrator.servers.control import StopResult

RETRIED_STATES = ("failed", "lost", "cancelled")


def cancel(
    output: str | Path, runs: Sequence[Run], *, kill: bool = False, is_dry: bool = False
) -> tuple[tuple[RequestOutcome, ...], list[str]]:
    """Stop `runs` wherever they run and keep them from being started; the outcome for each.

    Also a note for each job that a scheduler has. A running SLURM task stops after a checkpoint,
    with `kill` at once, without one. `is_dry` changes nothing. UsageError where
    workers on servers share the runs through a bucket and so cannot see a request in this folder.
    """
    from orchestrator.cancel import cancel_everywhere, cancel_runs
    from orchestrator.runs.states import State
    from orchestrator.servers.workers import refuse_cancel_across_folders

    # Refused, not ignored: the request file would look as if it had an effect.
    refuse_cancel_across_folders(Path(output))
    outcomes = cancel_runs(Path(output), runs, now=time.time(), is_dry=is_dry)
    # Also the runs that an earlier call cancelled: a scheduler may not have answered then.
    ids = [one.run_id for one in outcomes if one.is_asked or one.was == State.CANCELLED]
    return outcomes, [] if is_dry or not ids else cancel_everywhere(Path(output), ids, kill=kill)


def stop_workers(
    output: str | Path,
    names: Sequence[str] | None = None,
    *,
    kill: bool = False,
    is_dry: bool = False,
) -> list[StopResult]:
    """Stop the workers that `submit --servers` started on `names` (None: all), over ssh.

    IncompleteError where there is no plan, UsageError for a server that no submission has.
    """
    from merge.results.collect import refuse_missing_sweep
    from orchestrator.servers.control import stop_workers as stop

    refuse_missing_sweep(Path(output))
    return stop(Path(output), names, kill=kill, is_dry=is_dry)


def retry(
    output: str | Path,
    runs: Sequence[Run],
    states: Sequence[str] = RETRIED_STATES,
    *,
    is_dry: bool = False,
) -> tuple[RequestOutcome, ...]:
    """Mark those of `runs` that are in `states` as to be run again; starts nothing itself.

    UsageError for a state in which a run cannot be retried.
    """
    from merge.errors import UsageError
    from orchestrator.cancel import retry_runs

    if unknown := [state for state in states if state not in RETRIED_STATES]:
        raise UsageError(f"no state {unknown[0]!r} to retry; there are {', '.join(RETRIED_STATES)}")
    return retry_runs(Path(output), runs, states, now=time.time(), is_dry=is_dry)
