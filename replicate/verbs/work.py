"""`replicate work OUT`: run given runs of a frozen plan here; array tasks and servers start it."""

from __future__ import annotations

import argparse
from pathlib import Path

from merge.errors import UsageError
from replicate import api
from replicate import arguments as flags
from replicate.machine import on_this_machine, settings_of, train
from replicate.verbs.merge import exit_code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUT", help="output folder with a plan")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--runs", type=Path, metavar="FILE", help="run only these ids, one a line")
    which.add_argument(
        "--run", action="append", metavar="ID", help="run only this id; may be repeated"
    )
    flags.add_machine(parser)


def execute(arguments: argparse.Namespace) -> int:
    planned = api.frozen_plan(arguments.output, _run_ids(arguments))
    planned = on_this_machine(planned, arguments)
    settings = settings_of(planned, arguments)
    report_code = train(api.work, planned, arguments.output, settings, arguments)
    return report_code or (1 if exit_code(api.merge(arguments.output)) == 1 else 0)


def _run_ids(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.runs is None:
        return list(arguments.run) if arguments.run else None
    try:
        lines = arguments.runs.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--runs {arguments.runs} cannot be read ({error})") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise UsageError(f"--runs {arguments.runs} names no run: write one run id a line")
    return ids
