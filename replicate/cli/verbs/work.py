"""`replicate work OUT`: train given runs of a frozen plan; SLURM tasks and servers start it."""

from __future__ import annotations

import argparse
from pathlib import Path

from merge.errors import StorageError, UsageError
from merge.results.outcome import exit_code
from replicate import api
from replicate.cli import arguments as flags
from replicate.cli import slurm_task
from replicate.cli.next_steps import without_view
from replicate.cli.s3_arguments import sync_plan
from replicate.cli.this_machine import on_this_machine, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=Path, metavar="OUT", help="output folder with a plan")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--runs", type=Path, metavar="FILE", help="run only these ids, one a line")
    which.add_argument(
        "--run", action="append", metavar="ID", help="run only this id; may be repeated"
    )
    which.add_argument(
        "--submission",
        metavar="ID",
        help="run those that this SLURM task has in a submission; needs --array",
    )
    parser.add_argument(
        "--array", metavar="NAME", help="the array of --submission that this task belongs to"
    )
    flags.add_machine(parser)
    parser.add_argument("--snapshot", metavar="DIGEST", help="run this frozen copy of the code")
    parser.add_argument(
        "--worker-record",
        type=Path,
        metavar="FILE",
        help="write the record of this worker and its heartbeat to FILE",
    )


def execute(arguments: argparse.Namespace) -> int:
    """The exit code of the training, as `replicate run` has it."""
    from orchestrator.servers.worker_record import worker_record

    if not arguments.submission:
        # Before the first heartbeat: an error here still reaches the `submit` that started this.
        sync_plan(arguments)
    with worker_record(arguments.worker_record, arguments.claim_expiry) as worker:
        worker.exit_code = _work(arguments)
    return worker.exit_code


def _work(arguments: argparse.Namespace) -> int:
    if arguments.submission:
        report = slurm_task.work(arguments)
    else:
        planned = api.frozen_plan(arguments.output, _run_ids(arguments))
        report = train(api.work, on_this_machine(planned, arguments), arguments.output, arguments)
    try:
        merged = api.merge(arguments.output)
    except (StorageError, OSError) as error:
        return without_view(report, arguments.output, error)
    return report.exit_code or (1 if exit_code(merged) == 1 else 0)


def _run_ids(arguments: argparse.Namespace) -> list[str] | None:
    if arguments.runs is None:
        return list(arguments.run) if arguments.run else None
    try:
        lines = arguments.runs.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--runs {arguments.runs} cannot be read ({error})") from error
    ids = [line.strip() for line in lines if line.strip()]
    # Refused: an empty list would mean the whole table.
    if not ids:
        raise UsageError(f"--runs {arguments.runs} names no run: write one run id a line")
    return ids
