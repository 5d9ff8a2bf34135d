"""`replicate plan`: show the runs, shards and folders of a selection; start nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from merge.sweep import Run
from replicate import arguments as flags
from replicate.api import Plan, plan
from replicate.table import align


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_study(parser)
    flags.add_selection(parser)
    flags.add_output(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def execute(arguments: argparse.Namespace) -> int:
    planned = plan_of(arguments)
    output = flags.output_folder(arguments)
    if arguments.json:
        print(json.dumps(_document(planned, output), indent=1, ensure_ascii=False))
    else:
        print("\n".join(_lines(planned, output)))
    return 0


def plan_of(arguments: argparse.Namespace) -> Plan:
    """The plan that the flags of `run` or `plan` ask for."""
    axes = (arguments.shard_by or "").split(",")
    return plan(
        arguments.study,
        where=flags.selection(arguments),
        settings=flags.settings(arguments),
        debug=arguments.debug,
        shard_by=[axis.strip() for axis in axes if axis.strip()],
        shard=arguments.shard,
    )


def _lines(planned: Plan, output: Path) -> list[str]:
    rows = [["shard", "run", "folder", "configuration"]]
    rows += [
        [shard.name, run.run_id, str(output / run.path), run.config_hash]
        for shard in planned.shards
        for run in shard.runs
    ]
    noun = "shard" if len(planned.shards) == 1 else "shards"
    summary = f"{len(planned.runs)} runs in {len(planned.shards)} {noun} of study "
    return [*align(rows, left=4), "", f"{summary}{planned.sweep.study!r}"]


def _document(planned: Plan, output: Path) -> dict[str, Any]:
    return {
        "study": planned.sweep.study,
        "output": str(output),
        "num_runs": len(planned.runs),
        "shards": [
            {"name": shard.name, "runs": [_run_document(run, output) for run in shard.runs]}
            for shard in planned.shards
        ],
    }


def _run_document(run: Run, output: Path) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "folder": str(output / run.path),
        "cell": run.cell,
        "axes": dict(run.axes),
        "config": dict(run.config),
        "config_hash": run.config_hash,
    }
