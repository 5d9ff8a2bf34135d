"""`replicate merge OUT [OUT2 ...]`: rebuild the merged results and show the table."""

from __future__ import annotations

import argparse
import sys

from merge.__main__ import add_arguments as add_merge_arguments
from merge.results.combine import Merged
from merge.results.documents import view_bytes
from merge.results.outcome import exit_code, left_out
from merge.results.view import merge_named
from replicate.views.table import notes, results_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_merge_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the merged document")


def execute(arguments: argparse.Namespace) -> int:
    """0 complete, 1 something could not be counted, 3 a cell that was begun lacks runs.

    2 where plans disagree on a run, or with --strict where runs of a cell are not comparable.
    """
    merged, path = merge_named(
        arguments.inputs,
        arguments.into,
        on_conflict=arguments.on_conflict,
        is_strict=arguments.strict,
        legacy_unit=arguments.legacy_unit,
    )
    if arguments.json:
        # The bytes of the file, so that both can be compared.
        print(view_bytes(merged.document).decode("utf-8"), end="")
        _print_left_out(merged)
    else:
        show_merged(merged)
        print(f"\nwritten: {path}")
    return exit_code(merged)


def show_merged(merged: Merged) -> None:
    """Print the table on stdout, what it leaves out on stderr."""
    if merged.document["results"]:
        print("\n".join(results_table(merged.sweep, merged.document)))
    else:
        print("no results yet")
    for line in notes(merged.document):
        print(line)
    _print_left_out(merged)


def _print_left_out(merged: Merged) -> None:
    for line in left_out(merged):
        print(line, file=sys.stderr)
