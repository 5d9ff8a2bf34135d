"""`replicate cancel OUT`: stop runs wherever they run, and have them started nowhere."""

from __future__ import annotations

import argparse

from replicate import api
from replicate import arguments as flags
from replicate.wishes import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_runs_of_output(parser, "cancel")


def execute(arguments: argparse.Namespace) -> int:
    runs = api.runs_of(arguments.output, flags.selection(arguments), arguments.run)
    wished, told = api.cancel(arguments.output, runs, is_dry=arguments.dry_run)
    show(arguments, "cancel", wished, told)
    return 0
