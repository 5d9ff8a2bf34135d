"""`python -m merge OUT [OUT2 ...]`: merge without the rest of papergrid.

One output folder: its replication_results.json is rebuilt. Anything else is merged into
merged_results.json, here or where --into says. Exit codes as those of `replicate merge`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from merge.errors import PapergridError
from merge.foreign_text import guarded_output
from merge.results.cells import UNUSABLE_KEY
from merge.results.combine import Merged
from merge.results.conflicts import POLICIES
from merge.results.flags import flag_lines
from merge.results.outcome import exit_code, left_out
from merge.results.parts import REMARKS_KEY, part_of_mean, with_part
from merge.results.view import merge_named


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Merge the inputs of the command line and print the means; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        merged, path = merge_named(
            arguments.inputs,
            arguments.into,
            on_conflict=arguments.on_conflict,
            is_strict=arguments.strict,
            legacy_unit=arguments.legacy_unit,
        )
    except PapergridError as error:
        print(f"merge: {error}", file=sys.stderr)
        return error.exit_code
    for line in _lines(merged):
        print(line)
    # On stderr, so that the means on stdout can be piped into another program.
    for line in left_out(merged):
        print(line, file=sys.stderr)
    print(f"written: {path}")
    return exit_code(merged)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a merge, here and in `replicate merge`."""
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="OUT",
        help="output folder, run folder, merged JSON, or folder or JSON of the original script",
    )
    parser.add_argument(
        "--into",
        type=Path,
        help="file to write (default: replication_results.json in OUT for one output folder, "
        "merged_results.json here for anything else)",
    )
    parser.add_argument(
        "--on-conflict",
        choices=POLICIES,
        default="error",
        help="what to count of different results of one run: none (error), the last finished or "
        "the first finished one; all are kept and reported (default: %(default)s)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse, with exit code 2, where runs of a cell are not comparable",
    )
    parser.add_argument(
        "--legacy-unit",
        choices=("percent", "fraction"),
        help="how files of the original script are written (default: by their values)",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m merge",
        description="Merge results of one sweep, the same for any order of what is named.",
        allow_abbrev=False,
    )
    add_arguments(parser)
    return parser


def _lines(merged: Merged) -> list[str]:
    metric = merged.document["metric"]
    lines = []
    for cell, view in merged.document["results"].items():
        if view["complete"]:
            text = with_part(f"{view['mean'][metric]:.4f}", part_of_mean(view, metric))
            lines.append(f"{cell}: mean {metric} {text} over {view['n']}")
        elif UNUSABLE_KEY in view:
            lines.append(f"{cell}: unusable, {view[UNUSABLE_KEY]}")
        else:
            missing = f"{merged.document['average_over']} {', '.join(view['missing'])}"
            lines.append(f"{cell}: incomplete, lacks {missing}")
        lines += [f"remark: {cell}: {text}" for text in view.get(REMARKS_KEY, ())]
    lines += [f"{cell}: no result yet" for cell in merged.document["cells_without_results"]]
    return lines + flag_lines(merged.document)


if __name__ == "__main__":
    sys.exit(main())
