"""`replicate merge OUT [OUT2 ...]`: rebuild the merged results and show the table."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from merge.combine import Merged
from merge.paths import SweepPaths
from merge.view import merge_outputs, rebuild
from replicate.table import notes, results_table

_INTO = Path("merged_results.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("outputs", nargs="+", type=Path, metavar="OUT", help="output folder")
    parser.add_argument(
        "--into",
        type=Path,
        help="file to write (default: replication_results.json in OUT for one folder, "
        f"{_INTO} here for several)",
    )
    parser.add_argument("--json", action="store_true", help="print the merged document")


def execute(arguments: argparse.Namespace) -> int:
    """0 complete, 1 something could not be counted, 3 a cell that was begun lacks runs."""
    merged, path = _merge(arguments.outputs, arguments.into)
    if arguments.json:
        print(json.dumps(merged.document, indent=1, ensure_ascii=False))
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
    for problem in (*merged.problems, *merged.aside):
        print(f"left out: {problem.file}: {problem.reason}", file=sys.stderr)


def exit_code(merged: Merged) -> int:
    if not merged.is_clean:
        return 1
    return 0 if merged.is_complete and merged.document["results"] else 3


def _merge(outputs: list[Path], into: Path | None) -> tuple[Merged, Path]:
    if len(outputs) == 1 and into is None:
        return rebuild(outputs[0]), SweepPaths(outputs[0]).results
    path = into or _INTO
    return merge_outputs(outputs, path), path
