"""How an ended attempt is judged: from its exit code and what its trainer left."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from merge.errors import RecordError
from merge.files import read_json
from merge.paths import AttemptPaths
from merge.records import Outcome
from orchestrator.commit import Left, read_left
from orchestrator.progress import read_tail, stopped_by_itself

_LONGEST_REASON = 500
_AGENT_REPORT = re.compile(rb"^.*failed \(exitcode: ", re.MULTILINE)
_AGENT_LINE = re.compile(r"torch/distributed/|^[^A-Za-z]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an attempt ended, and why."""

    outcome: Outcome
    reason: str = ""
    left: Left | None = None
    """What the trainer left; not None where the outcome is done."""


def judge(attempt: AttemptPaths, exit_code: int, metric: str, *, was_stopped: bool) -> Verdict:
    """The verdict on an attempt that left `exit_code`.

    `was_stopped`: it was asked to stop, or killed for that. An attempt that finished all the same
    is done; one that left an error of its own has failed.
    """
    told = _told_error(attempt)
    if exit_code == 0:
        return _judge_success(attempt, metric, was_stopped=was_stopped)
    if was_stopped and not told:
        return Verdict(
            outcome=Outcome.INTERRUPTED,
            reason=f"stopped on request ({_exit_text(exit_code)})",
        )
    reason = told or _signal_text(exit_code) or _last_words(attempt) or _exit_text(exit_code)
    return Verdict(outcome=Outcome.FAILED, reason=reason[:_LONGEST_REASON])


def _judge_success(attempt: AttemptPaths, metric: str, *, was_stopped: bool) -> Verdict:
    try:
        left = read_left(attempt.result, metric)
    except RecordError as error:
        return Verdict(outcome=Outcome.FAILED, reason=str(error)[:_LONGEST_REASON])
    if left:
        return Verdict(outcome=Outcome.DONE, left=left)
    if was_stopped or stopped_by_itself(attempt.events):
        return Verdict(
            outcome=Outcome.INTERRUPTED, reason="stopped on request, after its checkpoint"
        )
    return Verdict(
        outcome=Outcome.FAILED,
        reason="exited 0 but left no result.json in $PAPERGRID_ATTEMPT_DIR (docs/run-contract.md)",
    )


def _told_error(attempt: AttemptPaths) -> str:
    """What the trainer itself says of its failure; empty where it says nothing that can be read."""
    try:
        document = read_json(attempt.error)
    except (FileNotFoundError, RecordError):
        return ""
    kind, message = document.get("kind"), document.get("message")
    return f"{kind}: {message}" if kind and message else str(message or kind or "")


def _signal_text(exit_code: int) -> str:
    if exit_code <= 128 or exit_code - 128 not in set(signal.Signals):
        return ""
    name = signal.Signals(exit_code - 128).name
    hint = " (by hand, or by a system short of memory)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def _last_words(attempt: AttemptPaths) -> str:
    """The last line on stderr that tells something; torchrun's own report does not."""
    tail = read_tail(attempt.stderr)
    report = _AGENT_REPORT.search(tail)
    text = (tail[: report.start()] if report else tail).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if not _AGENT_LINE.search(line)]
    return lines[-1] if lines else ""


def _exit_text(exit_code: int) -> str:
    return _signal_text(exit_code) or f"exit code {exit_code}"
