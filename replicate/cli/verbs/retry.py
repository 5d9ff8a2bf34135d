"""`replicate retry OUT`: mark failed, lost or cancelled runs as to be run again."""

from __future__ import annotations

import argparse

from replicate import api
from replicate.cli import arguments as flags
from replicate.views.requests import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        nargs="+",
        choices=api.RETRIED_STATES,
        default=api.RETRIED_STATES,
        help="only runs in these states (default: all three)",
    )
    flags.add_runs_of_output(parser, "retry")


def execute(arguments: argparse.Namespace) -> int:
    """0 all are marked, else the largest code of docs/exit-codes.md."""
    runs = api.runs_of(arguments.output, flags.selection(arguments), arguments.run)
    outcomes = api.retry(arguments.output, runs, arguments.state, is_dry=arguments.dry_run)
    notes = ["the command that started these runs starts them again"] if outcomes else []
    return show(arguments, "retry", outcomes, notes)
