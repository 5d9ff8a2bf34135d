"""`replicate evaluate OUT`: test finished trainings again, here, on SLURM or on servers."""

from __future__ import annotations

import argparse
from pathlib import Path

from merge.errors import IncompleteError, UsageError
from replicate.cli import arguments as flags
from replicate.cli import submit_servers, submit_slurm
from replicate.cli.evaluate_arguments import add_evaluation, with_evaluation
from replicate.cli.profile import add_profile
from replicate.cli.verbs import run, submit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUT", help="output folder of the trainings")
    add_evaluation(parser)
    add_profile(parser)
    flags.add_settings(parser.add_argument_group("test settings"))
    flags.add_selection(parser).add_argument(
        "--run", action="append", metavar="ID", help="only this training; may be repeated"
    )
    flags.add_machine(parser)
    flags.add_snapshot(parser)
    flags.add_check(parser)
    submit.add_places(parser, required=False)
    # What `run` and `submit` also read: an evaluation has no study file and prepares no data.
    parser.set_defaults(from_scratch=False, download=False, prepare_only=False)


def execute(arguments: argparse.Namespace) -> int:
    """The exit code of `run` or `submit`; 3 where a selected training has no result yet."""
    if not (arguments.slurm or arguments.servers):
        if arguments.json:
            raise UsageError("--json prints what was sent: it needs --slurm or --servers")
        submit.refuse_flags_of(submit_slurm.add_arguments, arguments, "no --slurm")
        submit.refuse_flags_of(submit_servers.add_arguments, arguments, "no --servers")
        return run.evaluate_here(arguments.output, arguments)
    unfinished = with_evaluation(arguments.output, arguments)
    code = submit.execute(arguments)
    return code or (IncompleteError.exit_code if unfinished else 0)
