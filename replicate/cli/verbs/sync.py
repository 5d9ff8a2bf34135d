"""`replicate sync push|pull|verify OUT S3URL`: an output folder and its copy in a bucket."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merge.errors import BucketUnavailableError
from merge.foreign_text import one_line
from merge.results.collect import refuse_missing_sweep
from merge.wording import size_text
from replicate.cli import s3_arguments as buckets
from replicate.views.transfers import transfers

if TYPE_CHECKING:
    from orchestrator.s3.url import BucketTarget
    from orchestrator.sync.report import SyncIssue, SyncReport
    from orchestrator.sync.selection import Selection
    from orchestrator.sync.verify import VerifyReport

_DONE = {"push": "sent", "pull": "fetched"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("push", "pull", "verify"))
    parser.add_argument("output", type=Path, metavar="OUT", help="output folder")
    parser.add_argument("url", metavar="S3URL", help="s3://BUCKET/PREFIX")
    group = parser.add_argument_group("which files")
    only = group.add_mutually_exclusive_group()
    only.add_argument("--no-checkpoints", action="store_true", help="everything except checkpoints")
    only.add_argument(
        "--only", choices=("results", "checkpoints"), help="only results or only checkpoints"
    )
    for flag in ("include", "exclude"):
        group.add_argument(
            f"--{flag}",
            action="append",
            default=[],
            metavar="GLOB",
            help=f"{flag} files whose name below OUT matches, such as '*.png'; may be repeated",
        )
    buckets.add_access(parser)
    parser.add_argument("--dry-run", action="store_true", help="show what would move; move nothing")
    parser.add_argument(
        "--quick", action="store_true", help="verify: compare stored checksums, read no object"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """0 all is in place, 1 something is left out or differs, 3 missing, 75 try again later."""
    target = buckets.target_of(arguments.url, arguments)
    # Before the bucket is asked, which may take long; only `pull` makes the folder.
    if arguments.action != "pull":
        refuse_missing_sweep(arguments.output)
    if arguments.action == "verify":
        return _verify(arguments, target)
    return _move(arguments, target)


def _move(arguments: argparse.Namespace, target: BucketTarget) -> int:
    from orchestrator.sync import commands as sync

    action = sync.push if arguments.action == "push" else sync.pull
    try:
        with transfers(_DONE[arguments.action]) as progress:
            report = action(
                arguments.output,
                target,
                _selection(arguments),
                is_dry=arguments.dry_run,
                on_transfer=progress.moved,
            )
    # The live line is gone by now; say how far it came before the error is printed.
    except BucketUnavailableError:
        print(f"{progress.text()}; the same command continues from there", file=sys.stderr)
        raise
    if arguments.json:
        _print_json(arguments, report.to_json())
    else:
        _show(arguments, report)
    return report.exit_code


def _verify(arguments: argparse.Namespace, target: BucketTarget) -> int:
    from orchestrator.sync import commands as sync

    verified = sync.verify(
        arguments.output, target, _selection(arguments), is_quick=arguments.quick
    )
    if arguments.json:
        _print_json(arguments, verified.to_json())
    else:
        _show_verified(verified)
    return verified.exit_code


def _selection(arguments: argparse.Namespace) -> Selection:
    from orchestrator.sync.selection import Part, Selection

    parts = frozenset(Part)
    if arguments.only:
        parts = frozenset({Part(arguments.only)})
    elif arguments.no_checkpoints:
        parts = frozenset({Part.RESULTS})
    return Selection(
        parts=parts, include=tuple(arguments.include), exclude=tuple(arguments.exclude)
    )


def _show(arguments: argparse.Namespace, report: SyncReport) -> None:
    done = _DONE[arguments.action]
    if arguments.dry_run:
        for name, size in sorted(report.transferred.items()):
            print(one_line(f"{size:>12}  {name}"))
        done = f"to be {done}"
    print(
        f"{len(report.transferred)} files {done} ({size_text(report.num_bytes)}), "
        f"{report.num_unchanged} are there already"
    )
    _show_issues({"kept": report.kept, "aside": report.aside, "problem": report.problems})


def _show_verified(verified: VerifyReport) -> None:
    print(
        f"{verified.num_equal} files equal here and there, {verified.num_only_there} only there, "
        f"{size_text(verified.num_bytes)} read"
    )
    _show_issues(
        {
            "damaged": verified.damaged,
            "different": verified.different,
            "missing": verified.missing,
        }
    )
    for name in verified.foreign:
        print(one_line(f"foreign: {name}: belongs to no run of the plan"), file=sys.stderr)
    for path in verified.running:
        print(f"running: {path}: not compared while it runs here", file=sys.stderr)


def _show_issues(groups: dict[str, list[SyncIssue]]) -> None:
    for what, issues in groups.items():
        for issue in _sorted(issues):
            print(one_line(f"{what}: {issue.name}: {issue.reason}"), file=sys.stderr)


def _sorted(issues: Iterable[SyncIssue]) -> list[SyncIssue]:
    return sorted(issues, key=lambda issue: issue.name)


def _print_json(arguments: argparse.Namespace, document: dict[str, Any]) -> None:
    document = {
        "action": arguments.action,
        "output": str(arguments.output),
        "url": arguments.url,
        "dry_run": arguments.dry_run,
        **document,
    }
    print(json.dumps(document, indent=1, ensure_ascii=False))
