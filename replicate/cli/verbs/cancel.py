"""`replicate cancel OUT`: stop runs wherever they run, and keep them from being started."""

from __future__ import annotations

import argparse

from merge.errors import UsageError
from merge.records.submissions import has_submission
from replicate import api
from replicate.cli import arguments as flags
from replicate.views.requests import show, show_stopped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_runs_of_output(parser, "cancel")
    parser.add_argument(
        "--workers",
        nargs="*",
        metavar="NAME",
        help="cancel no run: stop the workers on these servers (default: on all) after their "
        "checkpoints; other workers may take their runs",
    )
    parser.add_argument(
        "--kill",
        action="store_true",
        help="end running SLURM tasks, or with --workers the workers, without a checkpoint",
    )


def execute(arguments: argparse.Namespace) -> int:
    """0 all are cancelled or stopped, else the largest code of docs/exit-codes.md."""
    if arguments.workers is not None:
        return _stop_workers(arguments)
    if arguments.kill and not has_submission(arguments.output, "slurm"):
        raise UsageError(
            f"--kill ends running SLURM tasks, and none was submitted from {arguments.output}; for "
            f"workers on servers add --workers"
        )
    runs = api.runs_of(arguments.output, flags.selection(arguments), arguments.run)
    outcomes, notes = api.cancel(
        arguments.output, runs, kill=arguments.kill, is_dry=arguments.dry_run
    )
    return show(arguments, "cancel", outcomes, notes)


def _stop_workers(arguments: argparse.Namespace) -> int:
    if arguments.run or flags.selection(arguments):
        raise UsageError("--workers stops whole workers: give it without --run and filters")
    stopped = api.stop_workers(
        arguments.output,
        flags.split(arguments.workers) or None,
        kill=arguments.kill,
        is_dry=arguments.dry_run,
    )
    show_stopped(arguments, stopped)
    return 0 if all(worker.is_ok for worker in stopped) else 1
