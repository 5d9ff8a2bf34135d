"""`replicate submit`: send the selected runs to SLURM or to servers and return at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from merge.errors import UsageError
from replicate.cli import arguments as flags
from replicate.cli import submit_servers, submit_slurm
from replicate.cli.profile import add_profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_study(parser)
    add_profile(parser)
    flags.add_selection(parser)
    flags.add_output(parser)
    flags.add_machine(parser)
    flags.add_snapshot(parser)
    flags.add_check(parser)
    add_places(parser, required=True)


def add_places(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Where runs are sent, with the flags of each place."""
    where = parser.add_mutually_exclusive_group(required=required)
    where.add_argument("--slurm", action="store_true", help="send SLURM job arrays with sbatch")
    where.add_argument(
        "--servers", type=Path, metavar="FILE", help="a worker on each server of this hosts file"
    )
    submit_slurm.add_arguments(parser)
    submit_servers.add_arguments(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="show exactly what would be sent; write nothing"
    )
    parser.add_argument("--json", action="store_true", help="print what was sent as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """0 all is sent, or nothing is left to send; else as docs/slurm.md and docs/servers.md say."""
    if arguments.slurm:
        refuse_flags_of(submit_servers.add_arguments, arguments, "--slurm")
        return submit_slurm.execute(arguments)
    refuse_flags_of(submit_slurm.add_arguments, arguments, "--servers")
    return submit_servers.execute(arguments)


def refuse_flags_of(
    add: Callable[[argparse.ArgumentParser], None], arguments: argparse.Namespace, given: str
) -> None:
    """UsageError for a flag that only the other way of submitting has."""
    parser = argparse.ArgumentParser()
    add(parser)
    # A parser of those flags alone knows their names and defaults, so that no second list of them
    # has to be kept.
    for name, default in vars(parser.parse_args([])).items():
        if getattr(arguments, name) != default:
            raise UsageError(f"--{name.replace('_', '-')} has no effect with {given}: leave it out")
