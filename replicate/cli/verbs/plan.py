"""`replicate plan`: show the runs, shards, hours and folders of a selection; start nothing."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from merge.errors import UsageError
from merge.records.sweep import Run
from orchestrator.plan.plan import Plan
from replicate.api import check_plan, plan
from replicate.cli import arguments as flags
from replicate.cli.evaluate_arguments import planned_evaluation
from replicate.cli.profile import profile_of
from replicate.cli.s3_arguments import sync_target
from replicate.cli.this_machine import on_this_machine, print_note
from replicate.views.columns import align
from replicate.views.forecast import Forecast, forecast
from replicate.views.table import counted, duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    # The flags of `run`: `plan` before them shows what that run would do or refuse.
    flags.add_run(parser)
    flags.add_check(parser, default=False)
    parser.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="divide among N servers, by expected duration unless --shard-by says otherwise",
    )
    parser.add_argument(
        "--at-once",
        type=int,
        default=1,
        metavar="K",
        help="runs that one server trains at the same time, for the hours (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def execute(arguments: argparse.Namespace) -> int:
    """0; with --check 2 where runs lack something on this machine."""
    if arguments.at_once < 1:
        raise UsageError(f"--at-once {arguments.at_once}: give 1 or more")
    planned = plan_of_run(arguments, num_shards=arguments.shards)
    output = flags.output_folder(arguments)
    # As `run` would: what it adds to the plan of the folder, or why it is refused.
    check_plan(planned, output, print_note)
    if arguments.json:
        document = _document(planned, output, arguments.at_once)
        print(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        print(plan_text(planned, output, arguments.at_once))
    if arguments.check:
        from replicate.cli.preflight import ready

        ready(planned, output, arguments)
    return 0


def plan_of_run(arguments: argparse.Namespace, num_shards: int | None = None) -> Plan:
    """The plan that the flags of `run` ask for, refused where `run` refuses them on any machine."""
    if arguments.from_scratch:
        arguments.settings.append("from_scratch=true")
    # A wrong URL or flag is refused before anything else is done.
    sync_target(arguments)
    return on_this_machine(plan_of(arguments, num_shards), arguments)


def plan_of(arguments: argparse.Namespace, num_shards: int | None = None) -> Plan:
    """The plan that the flags of `run`, `submit` or `plan` ask for."""
    if evaluation := planned_evaluation(arguments):
        return evaluation
    profile = profile_of(arguments) if arguments.profile is not None else None
    if profile is not None:
        print_note(profile.text())
    # An empty --shard-by, from an unset variable of a script, is no axis.
    axes = (arguments.shard_by or "").split(",")
    return plan(
        arguments.study,
        where=flags.selection(arguments),
        settings=flags.settings(arguments),
        debug=arguments.debug,
        profile=profile,
        shard_by=[axis.strip() for axis in axes if axis.strip()],
        shard=arguments.shard,
        num_shards=num_shards,
        output=flags.output_folder(arguments),
    )


def plan_text(planned: Plan, output: Path, at_once: int = 1) -> str:
    """The runs of `planned`, a line each, and how long they are expected to take."""
    rows = [["shard", "run", "folder", "configuration", "hours"]]
    rows += [
        [shard.name, run.run_id, str(output / run.path), run.config_hash, _hours(planned, run)]
        for shard in planned.shards
        for run in shard.runs
    ]
    summary = f"{counted(len(planned.runs), 'run')} in {counted(len(planned.shards), 'shard')}"
    lines = [*align(rows, left=4), "", f"{summary} of study {planned.sweep.study!r}"]
    return "\n".join(lines + _forecast_lines(forecast(planned, at_once)))


def _hours(planned: Plan, run: Run) -> str:
    estimate = planned.estimates[run.run_id]
    return "-" if estimate.source == "unknown" else f"{estimate.hours:.2f}"


def _forecast_lines(expected: Forecast) -> list[str]:
    if not expected.is_known:
        return ["hours: nothing measured yet, and the study gives no figures (`hours:`)"]
    rows = [["shard", "runs", "hours"]]
    rows += [[s.name, str(s.num_runs), f"{s.hours:.2f}"] for s in expected.shards]
    return [
        "",
        *(align(rows) if len(expected.shards) > 1 else []),
        f"makespan {expected.makespan_h:.2f} h, no division does better than "
        f"{expected.lower_bound_h:.2f} h; claimed one by one {expected.claimed_h:.2f} h",
        *_left_lines(expected, sum(shard.num_runs for shard in expected.shards)),
        *(f"hours: {basis}" for basis in expected.bases),
    ]


def _left_lines(expected: Forecast, num_runs: int) -> list[str]:
    """What is left of a sweep that has begun."""
    if expected.num_left == num_runs and not expected.has_begun:
        return []
    return [
        f"of them {counted(expected.num_left, 'run')} left, {duration(expected.left_h)} of training"
    ]


def _document(planned: Plan, output: Path, at_once: int) -> dict[str, Any]:
    return {
        "study": planned.sweep.study,
        "output": str(output),
        "num_runs": len(planned.runs),
        "forecast": asdict(forecast(planned, at_once)),
        "shards": [
            {"name": s.name, "runs": [_run_document(planned, run, output) for run in s.runs]}
            for s in planned.shards
        ],
    }


def _run_document(planned: Plan, run: Run, output: Path) -> dict[str, Any]:
    estimate = planned.estimates[run.run_id]
    return {
        "run_id": run.run_id,
        "folder": str(output / run.path),
        "cell": run.cell,
        "axes": dict(run.axes),
        "config": dict(run.config),
        "config_hash": run.config_hash,
        "hours": None if estimate.source == "unknown" else estimate.hours,
        "hours_from": estimate.source,
    }
