"""How an ended attempt is judged: from its exit code and what its trainer left."""

from __future__ import annotations

import re
from dataclasses import dataclass
from signal import Signals

from merge.errors import RecordError
from merge.records.records import Cause, Outcome
from merge.storage.json_files import read_json
from merge.storage.paths import AttemptPaths
from orchestrator.runs.causes import Evidence, find_cause, killed_by, killed_rank
from orchestrator.runs.commit import Left, read_left
from orchestrator.runs.progress import read_tail, stopped_by_itself

_LONGEST_REASON = 500
_AGENT_REPORT = re.compile(r"^.*failed \(exitcode: ", re.MULTILINE)
_AGENT_LINE = re.compile(r"torch/distributed/|^[^A-Za-z]*$")

_DONE = (Cause.DONE, Cause.UNCLEAN_EXIT)
_STOPPED = {
    Cause.INTERRUPTED: "stopped on request",
    Cause.PREEMPTED: "stopped because the scheduler asked for it (pre-emption, or scancel)",
    Cause.TIME_LIMIT: "stopped because the job's time is over",
    Cause.CANCELLED: "cancelled",
}
"""Ends after which a run is not failed: it goes on from its checkpoint, if it is to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an attempt ended, and why."""

    outcome: Outcome
    cause: Cause
    reason: str = ""
    left: Left | None = None
    """What the trainer left; not None where the outcome is done."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What the trainer itself says of its failure."""

    kind: str
    message: str


def judge(
    attempt: AttemptPaths,
    exit_code: int,
    metric: str,
    *,
    did: Cause | None = None,
    num_oom_kills: int = 0,
) -> Verdict:
    """The verdict on an attempt that left `exit_code`.

    `did`: why the executor itself asked it to stop, or killed it, where it did. An attempt that
    finished all the same is done; one that left an error of its own has failed.
    `num_oom_kills`: processes that the kernel killed for memory meanwhile.
    """
    left, problem = _read_left(attempt, metric)
    told = _told_error(attempt)
    stderr = read_tail(attempt.stderr).decode("utf-8", "replace")
    cause = find_cause(
        Evidence(
            exit_code=exit_code,
            has_result=left is not None,
            did=None if problem and exit_code == 0 else did,
            stopped_by_itself=not problem and stopped_by_itself(attempt.events),
            told_kind=told.kind if told else None,
            told_message=told.message if told else "",
            stderr=stderr,
            stdout=read_tail(attempt.stdout).decode("utf-8", "replace"),
            num_oom_kills=num_oom_kills,
        )
    )
    if cause in _DONE:
        reason = _unclean(exit_code, told) if cause is Cause.UNCLEAN_EXIT else ""
        return Verdict(outcome=Outcome.DONE, cause=cause, reason=reason, left=left)
    if cause in _STOPPED:
        return Verdict(
            outcome=Outcome.INTERRUPTED, cause=cause, reason=_how_stopped(cause, exit_code)
        )
    reason = _why_failed(exit_code, cause, told, stderr, problem)
    return Verdict(outcome=Outcome.FAILED, cause=cause, reason=reason[:_LONGEST_REASON])


def _read_left(attempt: AttemptPaths, metric: str) -> tuple[Left | None, str]:
    """What the trainer left as its result, and why that cannot be used where it cannot."""
    try:
        return read_left(attempt.result, metric), ""
    except RecordError as error:
        return None, str(error)


def _told_error(attempt: AttemptPaths) -> _Told | None:
    """What the trainer says in error.json; None where it says nothing that can be read."""
    try:
        document = read_json(attempt.error)
    except (FileNotFoundError, RecordError):
        return None
    kind, message = str(document.get("kind") or ""), str(document.get("message") or "")
    return _Told(kind, message) if kind or message else None


def _unclean(exit_code: int, told: _Told | None) -> str:
    words = f"its result is whole and counts, though it ended with {_exit_text(exit_code)}"
    return f"{words} ({told.message})"[:_LONGEST_REASON] if told and told.message else words


def _how_stopped(cause: Cause, exit_code: int) -> str:
    if exit_code == 0:
        return f"{_STOPPED[cause]}, after its checkpoint"
    return f"{_STOPPED[cause]} ({_exit_text(exit_code)})"


def _why_failed(exit_code: int, cause: Cause, told: _Told | None, stderr: str, problem: str) -> str:
    if exit_code == 0:
        return problem or (
            "exited 0 but left no result.json in $PAPERGRID_ATTEMPT_DIR (docs/run-contract.md)"
        )
    if cause is Cause.STALLED:
        return "it wrote nothing for too long and was killed"
    words = ": ".join(text for text in (told.kind, told.message) if text) if told else ""
    if cause in (Cause.KILLED, Cause.HOST_OOM) and (number := killed_rank(stderr)):
        after = f"; then {words}" if words else ""
        return f"a rank was {_killed_text(number, cause)}{after}"
    own = killed_by(exit_code)
    return (
        words
        or (_killed_text(own, cause) if own else "")
        or _last_words(stderr)
        or _exit_text(exit_code)
    )


def _killed_text(number: Signals, cause: Cause) -> str:
    hint = ""
    if number is Signals.SIGKILL:
        hint = " (by hand, or by a system short of memory)"
        if cause is Cause.HOST_OOM:
            hint = " by a system short of memory"
    return f"killed by {number.name}{hint}"


def _last_words(stderr: str) -> str:
    """The last line on stderr that tells something; torchrun's own report does not."""
    report = _AGENT_REPORT.search(stderr)
    text = stderr[: report.start()] if report else stderr
    lines = [line.strip() for line in text.splitlines() if not _AGENT_LINE.search(line)]
    return lines[-1] if lines else ""


def _exit_text(exit_code: int) -> str:
    number = killed_by(exit_code)
    return f"killed by {number.name}" if number else f"exit code {exit_code}"
