"""`replicate report OUT`: write the table, every run and its provenance as Markdown."""

from __future__ import annotations

import argparse
from pathlib import Path

from replicate import api


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUT", help="output folder")


def execute(arguments: argparse.Namespace) -> int:
    print(api.report(arguments.output))
    return 0
