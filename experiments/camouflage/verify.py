"""What `replicate data verify --datasets cod10k` starts: is the copy whole? No torch.

Exit codes: 0 all is well, 3 something is missing, 1 something is wrong (or both), 2 usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
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
from experiments.datasets.verify.findings import Findings
from merge.errors import DataError
from merge.foreign_text import guarded_output

SCHEMA = 1


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Verify the copy below `--data-root`, print what is found; the exit code."""
    arguments = _parse(argv)
    findings = Findings("cod10k", arguments.limit)
    layout = _look(arguments, findings)
    if arguments.json:
        print(json.dumps(_document(layout, findings), indent=1))
    else:
        print("\n".join(_lines(layout, findings)))
    return findings.exit_code


def _look(arguments: argparse.Namespace, findings: Findings) -> Layout | None:
    try:
        layout = find_cod10k(arguments.data_root)
    except DataError as error:
        findings.missing("layout", str(error))
        return None
    for split in SPLITS:
        wanted = None if arguments.any_count else PUBLISHED_COUNTS[split]
        _look_at_split(layout, split, wanted, findings, is_deep=arguments.deep)
    return layout


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


def _document(layout: Layout | None, findings: Findings) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "layout": layout and layout.name,
        "root": layout and str(layout.root),
        "exit_code": findings.exit_code,
        "checked": dict(findings.checked),
        "problems_by_kind": dict(findings.totals),
        "problems": [asdict(problem) for problem in findings.kept],
    }


def _lines(layout: Layout | None, findings: Findings) -> Iterator[str]:
    verdict = f"{findings.totals.total():,} problems" if findings.totals else "no problem"
    where = f" in {layout.root} (layout {layout.name})" if layout else ""
    yield f"cod10k{where}: {verdict}"
    for what, number in findings.checked.items():
        yield f"  {what:<14} {number:>6,}"
    for problem in findings.kept:
        yield f"  {problem.severity:<8} {problem.kind}: {problem.message}"
    for kind, number in findings.totals.items():
        if number > findings.limit:
            yield f"  and {number - findings.limit:,} more of the kind {kind!r} (--limit)"
    if findings.totals and layout:
        yield f"  {DOWNLOAD}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="verify", usage=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("--datasets", nargs="+", choices=("cod10k",))
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--any-count", action="store_true")
    parser.add_argument("--limit", type=_limit, default=10)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
