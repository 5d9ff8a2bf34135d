"""`replicate status OUT`: states of runs, cells and workers, and what a sweep still lacks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from replicate import api
from replicate.cli import arguments as flags
from replicate.cli import s3_arguments as buckets
from replicate.cli.next_steps import quoted
from replicate.views.status import status_document, status_lines

if TYPE_CHECKING:
    from orchestrator.status import SweepStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output",
        nargs="?",
        type=Path,
        metavar="OUT",
        default=Path("outputs") / flags.DEFAULT_STUDY,
        help="output folder (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--reach",
        action="store_true",
        help="ask the servers of a submission over ssh whether their workers are alive",
    )
    buckets.add_claims(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Always 0 where the folder holds a sweep: failed runs are not a failure of this command."""
    target = buckets.claims_target(arguments)
    status = api.status(
        arguments.output, target, asks_servers=arguments.reach, has_sources=arguments.json
    )
    if arguments.json:
        print(json.dumps(status_document(status), indent=1, ensure_ascii=False))
    else:
        server_notes = [] if target else _shared_elsewhere(status, arguments.output)
        print("\n".join(status_lines(status, server_notes=server_notes)))
    return 0


def _shared_elsewhere(status: SweepStatus, output: Path) -> list[str]:
    """The commands that show runs of which this folder knows nothing."""
    places = dict.fromkeys(server.claims for server in status.servers if server.claims)
    return [
        f"their runs are shared through {place}: "
        f"`{quoted('replicate', 'status', output, '--claims', place)}` shows all of them"
        for place in places
    ]
