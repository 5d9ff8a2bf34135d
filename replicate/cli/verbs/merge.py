"""`replicate merge OUT [OUT2 ...]`: rebuild the merged results and show the table."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from merge.__main__ import add_arguments as add_merge_arguments
from merge.foreign_text import one_line
from merge.results.combine import Merged
from merge.results.documents import view_bytes
from merge.results.outcome import exit_code, left_out
from merge.results.view import merge_named
from merge.storage.paths import SweepPaths
from replicate.views.evaluations import evaluation_lines
from replicate.views.missing import ALL_COUNTED, read_missing
from replicate.views.table import notes, results_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_merge_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the merged document")


def execute(arguments: argparse.Namespace) -> int:
    """0 complete, 1 something could not be counted, 3 a cell of the table lacks runs.

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
        # Only a folder knows why its runs have no result.
        folder = path.parent if path == SweepPaths(path.parent).results else None
        show_merged(merged, folder if folder in arguments.inputs else None)
        print(f"\nwritten: {path}")
    return exit_code(merged)


def show_merged(merged: Merged, output: Path | None = None, *, names_failures: bool = True) -> None:
    """Print the table on stdout, what it leaves out on stderr.

    With the output folder also why runs have no result; `names_failures` names the first of them.
    """
    missing = read_missing(output, merged) if output else ALL_COUNTED
    table = results_table(merged.sweep, merged.document, missing_text=missing.text)
    print("\n".join(table))
    if not merged.document["results"]:
        print("no results yet")
    for line in notes(merged.document):
        print(one_line(line))
    if failures := missing.failures():
        for line in missing.failed_lines() if names_failures else ():
            print(one_line(line))
        print(f"{failures}: `replicate status {shlex.quote(str(output))}` says why")
    for line in evaluation_lines(merged.evaluations):
        print(one_line(line))
    _print_left_out(merged)


def _print_left_out(merged: Merged) -> None:
    for line in left_out(merged):
        print(one_line(line), file=sys.stderr)
