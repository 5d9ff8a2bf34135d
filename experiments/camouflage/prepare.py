"""What `replicate prepare` starts: COD10K is looked for, the tiny set is made. No torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

from experiments.camouflage.data.layouts import Layout, SplitName
from experiments.camouflage.data.pairs import read_pairs
from experiments.camouflage.data.splits import find_data
from experiments.camouflage.options import DataOptions
from merge.errors import PapergridError
from merge.foreign_text import guarded_output

SCHEMA = 1


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Find or make the data sets that `argv` asks for; the exit code."""
    arguments = _parse(argv)
    done = []
    try:
        for dataset in dict.fromkeys(arguments.datasets):
            options = DataOptions(dataset=dataset)
            layout = find_data(options, arguments.data_root, arguments.cache_dir)
            done.append({"dataset": dataset, "root": str(layout.root), **_counts(layout)})
    except PapergridError as error:
        print(f"replicate: {error}", file=sys.stderr)
        return error.exit_code
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "datasets": done}, indent=1))
        return 0
    for entry in done:
        print("{dataset} is ready in {root}: {train} training, {test} test images".format(**entry))
    return 0


def _counts(layout: Layout) -> dict[str, object]:
    splits: tuple[SplitName, ...] = ("train", "test")
    return {split: len(read_pairs(layout.splits[split], "cam")) for split in splits}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="prepare", usage=argparse.SUPPRESS, allow_abbrev=False)
    datasets = get_args(get_type_hints(DataOptions)["dataset"])
    parser.add_argument("--datasets", nargs="+", required=True, choices=datasets)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    # Flags of `replicate prepare` that are for archives: COD10K has none that a script may get.
    for flag in ("--download", "--keep-archives"):
        parser.add_argument(flag, action="store_true")
    for flag in ("--mirror", "--manifest", "--tries", "--timeout"):
        parser.add_argument(flag, action="append")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
