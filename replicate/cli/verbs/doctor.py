"""`replicate doctor [OUT]`: check the output folder, the hosts that share it, and the GPUs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from replicate import api
from replicate.cli import arguments as flags
from replicate.cli import s3_arguments as buckets

if TYPE_CHECKING:
    from orchestrator.doctor.check import Check

_MARKS = {"ok": "ok", "warning": "warning", "refused": "REFUSED"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output",
        nargs="?",
        type=Path,
        metavar="OUT",
        default=Path("outputs") / flags.DEFAULT_STUDY,
        help="output folder, with or without a planned sweep (default: %(default)s)",
    )
    _add_peer(parser)
    parser.add_argument(
        "--only",
        choices=("folder", "machine"),
        help="check only the folder, or only this machine (default: both)",
    )
    flags.add_data_root(parser)
    flags.add_weights(parser)
    flags.add_cache_dir(parser)
    parser.add_argument(
        "--bucket", metavar="S3URL", help="check what the credentials permit at s3://BUCKET/PREFIX"
    )
    buckets.add_access(parser)
    parser.add_argument("--json", action="store_true", help="print all checks as JSON")


def _add_peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait-for-peer",
        action="store_true",
        help="check between two hosts: run this on both, each with its own path to the folder",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long to wait for the other host (default: %(default)s)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Exit status: 0 where nothing is refused (there may be warnings), else 1."""
    from orchestrator.doctor.check import is_refused

    # Before the folder's tests, which may wait minutes for a peer.
    bucket = _bucket(arguments)
    checks = api.doctor(
        arguments.output,
        only=arguments.only,
        waits_for_peer=arguments.wait_for_peer,
        patience_s=arguments.patience,
        data_root=arguments.data_root,
        weights=arguments.weights,
        cache_dir=arguments.cache_dir,
    )
    checks += bucket()
    if arguments.json:
        document = {"refused": is_refused(checks), "checks": [asdict(one) for one in checks]}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print("\n".join(_lines(checks)))
    return 1 if is_refused(checks) else 0


def _bucket(arguments: argparse.Namespace) -> Callable[[], list[Check]]:
    """What checks the given bucket later; a wrong URL or flag is an error at once."""
    if arguments.bucket is None:
        return list
    from orchestrator.doctor.check import checks_of_rights
    from orchestrator.s3.permissions import check_permissions

    # The usual seven attempts with back-off would keep a person waiting for the answer "not
    # reachable".
    target = replace(buckets.target_of(arguments.bucket, arguments), max_attempts=2)
    return lambda: checks_of_rights(check_permissions(target))


def _lines(checks: Sequence[Check]) -> list[str]:
    width = max(len(one.name) for one in checks)
    lines = []
    for one in checks:
        lines.append(f"{_MARKS[one.verdict]:<7}  {one.name:<{width}}  {one.finding}")
        if one.fix:
            lines.append(f"{'':<7}  {'':<{width}}  -> {one.fix}")
    refused = [one.name for one in checks if one.verdict == "refused"]
    return [*lines, "", f"refused: {', '.join(refused)}" if refused else "nothing is refused"]
