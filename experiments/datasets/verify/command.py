"""The command that checks copies of data sets, in the form that all experiments share."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from experiments.datasets.verify.findings import EXIT_CODES, Findings
from merge.errors import PapergridError
from merge.storage.json_files import Json

SCHEMA = 1


def add_common_flags(
    parser: argparse.ArgumentParser, datasets: Sequence[str], *, has_manifest: bool = True
) -> None:
    """The flags of `replicate data verify`; `has_manifest`: a file may hold other counts."""
    parser.add_argument("--datasets", nargs="+", required=True, choices=tuple(datasets))
    parser.add_argument("--data-root", type=Path, required=True)
    if has_manifest:
        parser.add_argument("--manifest", type=Path)
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--limit", type=_limit, default=10)
    parser.add_argument("--json", action="store_true")


def run_checks(
    arguments: argparse.Namespace,
    check: Callable[[str, Path], Findings],
    advice: Callable[[str], str],
) -> int:
    """Check each data set that is named, print what is found; the exit code.

    `advice` says of a data set how its problems are mended.
    """
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    try:
        names = dict.fromkeys(arguments.datasets)
        found = [check(name, arguments.data_root) for name in names]
    except PapergridError as error:
        print(f"replicate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "datasets": [_document(f) for f in found]}, indent=1))
    else:
        print("\n".join(line for findings in found for line in _lines(findings, advice)))
    codes = {findings.exit_code for findings in found}
    return next((code for code in (EXIT_CODES["wrong"], *codes) if code in codes and code), 0)


def _document(findings: Findings) -> dict[str, Json]:
    return {
        "dataset": findings.dataset,
        **({"place": findings.place} if findings.place else {}),
        "exit_code": findings.exit_code,
        "checked": dict(findings.checked),
        "problems_by_kind": dict(findings.totals),
        "problems": [asdict(problem) for problem in findings.kept],
    }


def _lines(findings: Findings, advice: Callable[[str], str]) -> Iterator[str]:
    total = findings.totals.total()
    verdict = {0: "no problem", 1: "1 problem"}.get(total, f"{total:,} problems")
    where = f" in {findings.place}" if findings.place else ""
    yield f"{findings.dataset}{where}: {verdict}"
    for what, number in findings.checked.items():
        yield f"  {what:<20} {number:>9,}"
    for problem in findings.kept:
        yield f"  {problem.severity:<8} {problem.kind}: {problem.message}"
    for kind, number in findings.totals.items():
        if number > findings.limit:
            yield f"  and {number - findings.limit:,} more of the kind {kind!r} (--limit)"
    text = advice(findings.dataset)
    # A layout that is missing may say it already.
    if findings.totals and not any(text in problem.message for problem in findings.kept):
        yield f"  {text}"


def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 or more")
    return int(text)
