"""The state of a run, derived from its files; pure, but for `read_facts`. Nothing is stored twice.

    done      its result is there, valid and of the planned configuration
    unknown   a record that decides is unreadable, or belongs to something else
    pending   no process has it: never started, or stopped on request (resumes from its checkpoint)
    claimed   a live owner has it and has started no process yet
    running   a live owner has it, and its trainer has written something recently
    stalled   a live owner has it, but its trainer wrote nothing for `STALLED_AFTER_S`
    failed    its last attempt failed; or was lost: its owner crashed without a final record, so
              the next command takes it over
    cancelled a person has cancelled it; no process has it

Reads as few files as will do, and imports nothing heavy: `replicate status` asks 10,000 times.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from merge.errors import RecordError, StorageError
from merge.records.records import (
    AttemptRecord,
    Cause,
    Claim,
    Outcome,
    Owner,
    Request,
    RequestAction,
    read_attempt,
)
from merge.records.sweep import Run
from merge.storage.nfs import clock_of
from merge.storage.paths import AttemptPaths, RunPaths
from orchestrator.machine.owners import owner_alive, this_owner
from orchestrator.runs.claims import finished, is_live, last_claim
from orchestrator.runs.progress import Progress, read_progress
from orchestrator.runs.requests import cancelled_text, last_request
from orchestrator.runs.stall import last_output, modified

STALLED_AFTER_S = 600.0


class State(StrEnum):
    PENDING = "pending"
    CLAIMED = "claimed"
    RUNNING = "running"
    STALLED = "stalled"
    FAILED = "failed"
    DONE = "done"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


LIVE_STATES = (State.CLAIMED, State.RUNNING, State.STALLED)
"""States of a run with a live claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is in a run's files; absent files are None."""

    is_done: bool = False
    problem: str = ""
    """Why a record that decides cannot be used."""
    request: Request | None = None
    """The newest request about it."""
    claim: Claim | None = None
    last_beat: float | None = None
    """Unix time of its owner's last heartbeat, by the clock of the file system."""
    owner_alive: bool | None = None
    """None where this host cannot know it: then the last heartbeat decides."""
    attempt: AttemptRecord | None = None
    """The attempt of `claim`."""
    attempt_began: float | None = None
    """Unix time at which it began, by the clock of the file system; None where that is not known:
    then the time in its record counts, which is by its own host's clock."""
    log: Path | None = None
    """What its process writes to stderr."""
    progress: Progress | None = None
    last_output: float | None = None
    """Unix time at which the attempt's process last wrote something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The state of a run, as shown to a person. Ages are in seconds."""

    state: State
    reason: str = ""
    cause: Cause | None = None
    """Why its last attempt failed, where it did."""
    attempt: int | None = None
    log: str = ""
    """File with what its last attempt wrote to stderr; empty where it has none."""
    host: str = ""
    epoch: int | None = None
    step: int | None = None
    loss: float | None = None
    attempt_age_s: float | None = None
    """Since the attempt began."""
    heartbeat_age_s: float | None = None
    """Since the owner's last heartbeat."""
    output_age_s: float | None = None
    """Since the trainer last wrote something."""
    cancelled: str = ""
    """Who has cancelled it while a process still has it; empty where no such request holds."""


def read_facts(output: Path, run: Run, here: Owner | None = None) -> RunFacts:
    """The facts in the files of `run` below `output`, as seen from `here`. Reads only."""
    paths = RunPaths(output / run.path)
    try:
        if finished(paths, run.config_hash):
            return RunFacts(is_done=True)
        request = last_request(paths)
        claim = last_claim(paths)
        if claim is None:
            return RunFacts(request=request)
        last_beat = modified(paths.claim(claim.number))
        files = paths.attempt(claim.number)
        attempt = _read_attempt(files)
        # While it runs its record is as it was written at its start.
        is_open = attempt is not None and attempt.outcome is None
        began = modified(files.record) if is_open else None
    except RecordError as error:
        return RunFacts(problem=str(error))
    return RunFacts(
        request=request,
        claim=claim,
        last_beat=last_beat,
        owner_alive=None if claim.released else owner_alive(claim.owner, here or this_owner()),
        attempt=attempt,
        attempt_began=began,
        log=files.stderr if attempt else None,
        progress=read_progress(files.events),
        last_output=last_output(files),
    )


def read_states(output: Path, runs: Sequence[Run], now: float) -> list[RunState]:
    """The states of `runs`, at Unix time `now` by this host's clock.

    Where a process has one of them, the clock of the file system is used instead; `now` is used
    only where nothing can be written there.
    """
    here = this_owner()
    facts = [read_facts(output, run, here) for run in runs]
    if any(fact.claim and not fact.claim.released for fact in facts):
        with suppress(StorageError):
            now = clock_of(output)
    return [derive_state(fact, now) for fact in facts]


def derive_state(facts: RunFacts, now: float) -> RunState:
    """The state that `facts` amount to at Unix time `now`."""
    if facts.is_done:
        return RunState(state=State.DONE)
    if facts.problem:
        return RunState(state=State.UNKNOWN, reason=facts.problem)
    claim, attempt, request = facts.claim, facts.attempt, facts.request
    if claim is None:
        return _of_untouched(request)
    cause = attempt.cause if attempt else None
    cancelled = ""
    silence_s = now - (claim.heartbeat if facts.last_beat is None else facts.last_beat)
    if attempt and (claim.released or attempt.outcome):
        state, reason = _of_ended(attempt)
    elif is_live(claim, facts.owner_alive, silence_s=silence_s):
        state, reason = _of_live(facts, now)
        if request and request.action is RequestAction.CANCEL:
            cancelled = cancelled_text(request)
        request = None
    else:
        state, reason = _of_abandoned(claim, attempt)
        cause = Cause.LOST
    if request and request.action is RequestAction.CANCEL:
        state, reason = State.CANCELLED, cancelled_text(request)
    elif request and request.claim >= claim.number:
        state, reason = State.PENDING, "to be tried again"
    progress = facts.progress
    return RunState(
        state=state,
        reason=reason,
        cause=cause if state is State.FAILED else None,
        attempt=attempt.number if attempt else None,
        log=str(facts.log or ""),
        host=claim.owner.host,
        epoch=progress.epoch if progress else None,
        step=progress.step if progress else None,
        loss=progress.loss if progress else None,
        # A clock that was set back must not give a negative age.
        attempt_age_s=max(0.0, now - _began(facts)) if attempt else None,
        heartbeat_age_s=silence_s,
        output_age_s=None if facts.last_output is None else now - facts.last_output,
        cancelled=cancelled,
    )


def _of_untouched(request: Request | None) -> RunState:
    if request and request.action is RequestAction.CANCEL:
        return RunState(state=State.CANCELLED, reason=cancelled_text(request))
    return RunState(state=State.PENDING)


def _of_ended(attempt: AttemptRecord) -> tuple[State, str]:
    match attempt.outcome:
        case Outcome.FAILED:
            return State.FAILED, attempt.reason
        case Outcome.DONE:
            return State.PENDING, "its result was removed"
        case None:
            return State.FAILED, "lost: its end could not be recorded"
        case _:
            return State.PENDING, attempt.reason


def _of_live(facts: RunFacts, now: float) -> tuple[State, str]:
    if facts.attempt is None:
        return State.CLAIMED, ""
    silence_s = now - max(_began(facts), facts.last_output or 0.0)
    if silence_s > STALLED_AFTER_S:
        return State.STALLED, f"its process wrote nothing for {silence_s / 60:.0f} min"
    return State.RUNNING, ""


def _began(facts: RunFacts) -> float:
    assert facts.attempt is not None
    return facts.attempt.started if facts.attempt_began is None else facts.attempt_began


def _of_abandoned(claim: Claim, attempt: AttemptRecord | None) -> tuple[State, str]:
    if attempt is None:
        return State.PENDING, ""
    owner = claim.owner
    return State.FAILED, (
        f"lost: its executor (process {owner.pid} on {owner.host}) died; the same command goes on"
    )


def _read_attempt(files: AttemptPaths) -> AttemptRecord | None:
    try:
        return read_attempt(files.record)
    except FileNotFoundError:
        return None
