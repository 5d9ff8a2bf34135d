"""The commands that a message names as the next step, quoted for a shell."""

from __future__ import annotations

import argparse
import sys
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import StorageError
from replicate.cli.s3_arguments import access_words

if TYPE_CHECKING:
    from orchestrator.local.events import LocalReport


def status_command(output: Path | str, arguments: argparse.Namespace | None = None) -> str:
    """The command that shows the status of runs that are trained with `arguments`."""
    claims = arguments.claims if arguments else None
    place = ["--claims", claims, *access_words(arguments)] if arguments and claims else []
    return _quoted("replicate", "status", output, *place)


def push_command(output: Path | str, url: str, arguments: argparse.Namespace) -> str:
    """The command that sends what is not in the bucket yet."""
    return _quoted("replicate", "sync", "push", output, url, *access_words(arguments))


def without_view(report: LocalReport, output: Path, error: Exception) -> int:
    """Say that the merged view could not be written after a training; the command's exit code."""
    merge = _quoted("replicate", "merge", output)
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
        retry = _quoted("replicate", "retry", output)
        steps.append(f"{retry}, then the same command, runs what was cancelled")
    return [f"{word:<16}{step}" for word, step in zip_longest(["next"], steps, fillvalue="")]


def _quoted(*words: Path | str) -> str:
    from orchestrator.config.shell import quote

    return quote([str(word) for word in words])
