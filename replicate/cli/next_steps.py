"""The commands that a message names as the next step, quoted for a shell."""

from __future__ import annotations

import argparse
import sys
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import StorageError
from merge.foreign_text import one_line
from replicate.cli.s3_arguments import access_words

if TYPE_CHECKING:
    from orchestrator.local.events import LocalReport, RunEnded

_MOST_FAILED = 20
"""A broken study fails in every run: the next steps must stay on the screen."""


def status_command(output: Path | str, arguments: argparse.Namespace | None = None) -> str:
    """The command that shows the status of runs that are trained with `arguments`."""
    claims = arguments.claims if arguments else None
    place = ["--claims", claims, *access_words(arguments)] if arguments and claims else []
    return quoted("replicate", "status", output, *place)


def push_command(output: Path | str, url: str, arguments: argparse.Namespace) -> str:
    """The command that sends what is not in the bucket yet."""
    return quoted("replicate", "sync", "push", output, url, *access_words(arguments))


def failed_lines(report: LocalReport, status: str) -> list[str]:
    """The runs that failed in this command, each with its reason and its log."""
    from orchestrator.local.events import RunOutcome

    failed = report.having(RunOutcome.FAILED, RunOutcome.STORAGE, RunOutcome.REFUSED)
    lines = [one_line(_failed_line(ending)) for ending in failed[:_MOST_FAILED]]
    more = len(failed) - _MOST_FAILED
    return lines + ([f"{'':<16}and {more} more: {status}"] if more > 0 else [])


def _failed_line(ending: RunEnded) -> str:
    what = f"{ending.outcome}({ending.cause})" if ending.cause else ending.outcome.value
    log = f"; log {ending.log}" if ending.log else ""
    return f"{what:<15} {ending.run.run_id}: {ending.reason}{log}"


def without_view(report: LocalReport, output: Path, error: Exception) -> int:
    """Say that the merged view could not be written after a training; the command's exit code."""
    merge = quoted("replicate", "merge", output)
    print(f"the results are on disk, but not merged; `{merge}` does it: {error}", file=sys.stderr)
    return report.exit_code or StorageError.exit_code


def next_steps(report: LocalReport, output: Path, status: str) -> list[str]:
    """`status`, and the commands that help with the runs that are not done."""
    from orchestrator.local.events import RunOutcome

    steps = [status]
    if report.having(
        RunOutcome.FAILED,
        RunOutcome.STORAGE,
        RunOutcome.INTERRUPTED,
        RunOutcome.ELSEWHERE,
        RunOutcome.NOT_STARTED,
    ):
        steps.append("the same command again runs what is missing")
    if report.having(RunOutcome.CANCELLED):
        retry = quoted("replicate", "retry", output)
        steps.append(f"{retry}, then the same command, runs what was cancelled")
    return [f"{word:<16}{step}" for word, step in zip_longest(["next"], steps, fillvalue="")]


def quoted(*words: Path | str) -> str:
    """A command that a person can paste into a shell."""
    from orchestrator.config.shell import quote

    return quote([str(word) for word in words])
