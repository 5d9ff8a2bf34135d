"""What `replicate data verify --datasets cod10k` starts: is the copy whole? No torch.

Exit codes: 0 all is well, 3 something is missing, 1 something is wrong (or both), 2 usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.camouflage.data.layouts import (
    DOWNLOAD,
    PUBLISHED_COUNTS,
    SPLITS,
    Layout,
    SplitName,
    find_cod10k,
)
from experiments.camouflage.data.pairs import Pair, object_of, read_pair, read_pairs
from experiments.datasets.verify.command import add_common_flags, run_checks
from experiments.datasets.verify.findings import Findings
from merge.errors import DataError
from merge.foreign_text import guarded_output


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Verify the copy below `--data-root`, print what is found; the exit code."""
    parser = argparse.ArgumentParser(prog="verify", usage=argparse.SUPPRESS, allow_abbrev=False)
    add_common_flags(parser, ("cod10k",), has_manifest=False)
    parser.add_argument("--any-count", action="store_true")
    arguments = parser.parse_args(argv)

    def check(dataset: str, root: Path) -> Findings:
        findings = Findings(dataset, arguments.limit)
        counts = {} if arguments.any_count else PUBLISHED_COUNTS
        _look(root, counts, findings, is_deep=arguments.deep)
        return findings

    return run_checks(arguments, check, lambda _: DOWNLOAD)


def _look(
    root: Path, counts: Mapping[SplitName, int], findings: Findings, *, is_deep: bool
) -> None:
    try:
        layout = find_cod10k(root)
    except DataError as error:
        findings.missing("layout", str(error))
        return
    findings.place = f"{layout.root} (layout {layout.name})"
    for split in SPLITS:
        _look_at_split(layout, split, counts.get(split), findings, is_deep=is_deep)


def _look_at_split(
    layout: Layout, split: SplitName, wanted: int | None, findings: Findings, *, is_deep: bool
) -> None:
    try:
        pairs = read_pairs(layout.splits[split], "cam")
    except DataError as error:
        findings.missing(f"{split} files", str(error))
        return
    findings.expect_count(f"{split} images", len(pairs), wanted)
    for pair in pairs if is_deep else ():
        _look_into(pair, findings)


def _look_into(pair: Pair, findings: Findings) -> None:
    try:
        _, mask = read_pair(pair)
    except DataError as error:
        findings.wrong("file", str(error))
        return
    if not object_of(mask).any():
        findings.wrong("empty mask", f"{pair.mask} has no object")


if __name__ == "__main__":
    sys.exit(main())
