"""How an attempt ended: its outcome, cause and reason, from its exit code and its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from signal import Signals

from merge.errors import RecordError, StorageError
from merge.records.manifest import Manifest
from merge.records.records import Cause, Outcome
from merge.storage.json_files import read_json
from merge.storage.paths import AttemptPaths
from orchestrator.runs.causes import Evidence, find_cause, killed_by, killed_rank
from orchestrator.runs.commit import TrainerResult, read_trainer_result
from orchestrator.runs.progress import read_tail, stopped_by_itself

_LONGEST_REASON = 500
_AGENT_REPORT = re.compile(r"^.*failed \(exitcode: ", re.MULTILINE)
_CAUGHT = re.compile(
    r"(?:[\w.]+: )?Caught (\w+) in .*\.\nOriginal Traceback \(most recent call last\):\n"
)
"""How torch begins the message of an error that it passes on from another process or thread."""
_AGENT_LINE = re.compile(r"torch/distributed/|^[^A-Za-z]*$")

_SILENT = "it wrote nothing for too long and was killed"

_DONE = (Cause.DONE, Cause.UNCLEAN_EXIT)
_STOPPED = {
    Cause.INTERRUPTED: "stopped on request",
    Cause.PREEMPTED: "stopped because the scheduler asked for it (pre-emption, or scancel)",
    Cause.TIME_LIMIT: "stopped because the job's time is over",
    Cause.CANCELLED: "cancelled",
}
"""Causes after which a run has not failed: it can resume from its checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome, cause and reason of an attempt's end."""

    outcome: Outcome
    cause: Cause
    reason: str = ""
    result: TrainerResult | None = None
    """The trainer's result; not None where the outcome is done."""


@dataclass(frozen=True, slots=True)
class _TrainerError:
    """The failure that the trainer reports in error.json."""

    kind: str
    message: str


def judge(
    attempt: AttemptPaths,
    exit_code: int,
    metric: str,
    manifest: Manifest,
    *,
    stop_cause: Cause | None = None,
    num_oom_kills: int = 0,
) -> Verdict:
    """The verdict on an attempt that left `exit_code`.

    `stop_cause`: why the executor itself stopped or killed the attempt, if it did. An attempt that
    finished all the same is done; one that left an error of its own has failed. StorageError where
    its result cannot be read now.
    `num_oom_kills`: processes that the kernel killed for memory while the attempt ran.
    """
    result, problem = _read_trainer_result(attempt, metric, manifest)
    error = _read_error(attempt)
    stderr = read_tail(attempt.stderr).decode("utf-8", "replace")
    cause = find_cause(
        Evidence(
            exit_code=exit_code,
            has_result=result is not None,
            stop_cause=None if problem and exit_code == 0 else stop_cause,
            stopped_by_itself=not problem and stopped_by_itself(attempt.events),
            error_kind=error.kind if error else None,
            error_message=error.message if error else "",
            stderr=stderr,
            stdout=read_tail(attempt.stdout).decode("utf-8", "replace"),
            num_oom_kills=num_oom_kills,
        )
    )
    if cause in _DONE:
        reason = _unclean(exit_code, error) if cause is Cause.UNCLEAN_EXIT else ""
        return Verdict(outcome=Outcome.DONE, cause=cause, reason=reason, result=result)
    if cause in _STOPPED:
        return Verdict(
            outcome=Outcome.INTERRUPTED, cause=cause, reason=_how_stopped(cause, exit_code)
        )
    reason = _why_failed(exit_code, cause, error, stderr, problem)
    if stop_cause is Cause.STALLED and cause is Cause.HOST_OOM:
        reason = f"{_SILENT}: {_last_words(stderr)}"
    return Verdict(outcome=Outcome.FAILED, cause=cause, reason=reason[:_LONGEST_REASON])


def _read_trainer_result(
    attempt: AttemptPaths, metric: str, manifest: Manifest
) -> tuple[TrainerResult | None, str]:
    """The trainer's result, and why it cannot be used (empty where it can, or is absent).

    StorageError where the file system does not give it now.
    """
    try:
        return read_trainer_result(attempt.result, metric, manifest), ""
    except StorageError:
        raise
    except RecordError as error:
        return None, str(error)


def _read_error(attempt: AttemptPaths) -> _TrainerError | None:
    """The content of error.json; None where it is absent, empty or unreadable."""
    try:
        document = read_json(attempt.error)
    except (FileNotFoundError, RecordError):
        return None
    kind, message = str(document.get("kind") or ""), str(document.get("message") or "")
    message = own_words(message)
    return _TrainerError(kind, message) if kind or message else None


def own_words(message: str) -> str:
    """The error itself of a `message` in which torch passes it on with its traceback."""
    caught = _CAUGHT.match(message)
    if caught is None:
        return message
    # Its last line, or lines, without the module: `merge.errors.DataError: no such photograph`.
    ends = list(re.finditer(rf"^(?:\w+\.)*(?={caught[1]}\b)", message, re.MULTILINE))
    return message[ends[-1].end() :].strip() if ends else message


def _unclean(exit_code: int, error: _TrainerError | None) -> str:
    words = f"its result is whole and counts, though it ended with {_exit_text(exit_code)}"
    return f"{words} ({error.message})"[:_LONGEST_REASON] if error and error.message else words


def _how_stopped(cause: Cause, exit_code: int) -> str:
    if exit_code == 0:
        return f"{_STOPPED[cause]}, after its checkpoint"
    return f"{_STOPPED[cause]} ({_exit_text(exit_code)})"


def _why_failed(
    exit_code: int, cause: Cause, error: _TrainerError | None, stderr: str, problem: str
) -> str:
    if exit_code == 0:
        return problem or (
            "exited 0 but left no result.json in $PAPERGRID_ATTEMPT_DIR (docs/run-contract.md)"
        )
    if cause is Cause.STALLED and error is None:
        return _SILENT
    words = ": ".join(text for text in (error.kind, error.message) if text) if error else ""
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
    """The last line on stderr that is not of torchrun's own report; empty where there is none."""
    report = _AGENT_REPORT.search(stderr)
    text = stderr[: report.start()] if report else stderr
    lines = [line.strip() for line in text.splitlines() if not _AGENT_LINE.search(line)]
    return lines[-1] if lines else ""


def _exit_text(exit_code: int) -> str:
    number = killed_by(exit_code)
    return f"killed by {number.name}" if number else f"exit code {exit_code}"
