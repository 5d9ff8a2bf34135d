"""`replicate run` (and `replicate` without a verb): train the selected runs on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from merge.combine import Merged
from merge.paths import SweepPaths
from replicate import api
from replicate import arguments as flags
from replicate.machine import on_this_machine, train
from replicate.verbs import plan as plan_verb
from replicate.verbs.merge import exit_code, show_merged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_study(parser)
    flags.add_selection(parser)
    flags.add_output(parser)
    flags.add_machine(parser).add_argument(
        "--from-scratch",
        action="store_true",
        help="random weights, no file needed: short for --set from_scratch=true",
    )
    flags.add_snapshot(parser)
    parser.add_argument("--dry-run", action="store_true", help="show the plan and start nothing")


def execute(arguments: argparse.Namespace) -> int:
    if arguments.from_scratch:
        arguments.settings.append("from_scratch=true")
    if arguments.dry_run:
        return plan_verb.execute(argparse.Namespace(**vars(arguments), json=False))
    planned = on_this_machine(plan_verb.plan_of(arguments), arguments)
    output = flags.output_folder(arguments)
    report_code = train(api.run, planned, output, arguments).exit_code
    merged = api.merge(output)
    print()
    show_merged(merged)
    _say_where(merged, output)
    return report_code or (1 if exit_code(merged) == 1 else 0)


def _say_where(merged: Merged, output: Path) -> None:
    paths = SweepPaths(output)
    print(f"\nmerged results  {paths.results}")
    print(f"report          {api.report(output)}")
    panels = sorted(
        str(path)
        for run in merged.sweep.runs
        for path in (output / run.path / "panels").glob("*.png")
    )
    if panels:
        print(f"panels          {panels[0]}" + (f" and {len(panels) - 1} more" * (len(panels) > 1)))
    print(f"next            replicate status {output}")
    if not merged.is_complete or merged.document["cells_without_results"]:
        print("                the same command again runs what is missing")
    if any((output / run.path / "tensorboard").exists() for run in merged.sweep.runs):
        print(f"                tensorboard --logdir {output}")
