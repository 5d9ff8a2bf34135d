"""`replicate run` (and `replicate` without a verb): train the selected runs on this machine."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from merge.combine import Merged
from merge.errors import UsageError
from merge.outcome import exit_code
from merge.paths import SweepPaths
from merge.sweep import Run
from replicate import api
from replicate import arguments as flags
from replicate.live import shown
from replicate.table import format_of
from replicate.verbs import plan as plan_verb
from replicate.verbs.merge import show_merged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_study(parser)
    flags.add_selection(parser)
    flags.add_output(parser)
    _add_machine(parser.add_argument_group("this machine (none of it changes a number)"))
    parser.add_argument("--dry-run", action="store_true", help="show the plan and start nothing")


def _add_machine(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data-root", type=Path, metavar="DIR", help="where the datasets lie")
    group.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="writable folder for derived data (default: $PAPERGRID_CACHE_DIR, "
        "else papergrid below $XDG_CACHE_HOME or ~/.cache)",
    )
    group.add_argument(
        "--weights", type=Path, metavar="PATH", help="pretrained weights: a file or a folder"
    )
    group.add_argument(
        "--from-scratch",
        action="store_true",
        help="random weights, no file needed: short for --set from_scratch=true",
    )
    group.add_argument(
        "--devices",
        metavar="LIST",
        help="GPUs such as 0,1,2,3, or cpu, or cpu:8 for eight slots "
        "(default: all GPUs, else a CPU slot a core)",
    )
    group.add_argument(
        "--devices-per-run", type=int, metavar="N", help="DDP ranks of a run (default: the study's)"
    )
    group.add_argument(
        "--num-workers",
        type=int,
        metavar="N",
        help="loader processes of a rank (default: the study's)",
    )
    group.add_argument(
        "--grace",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="time for trainings to write a checkpoint after Ctrl-C (default: %(default)s)",
    )


def execute(arguments: argparse.Namespace) -> int:
    if arguments.from_scratch:
        arguments.settings.append("from_scratch=true")
    if arguments.dry_run:
        return plan_verb.execute(argparse.Namespace(**vars(arguments), json=False))
    planned = _on_this_machine(plan_verb.plan_of(arguments), arguments)
    output = flags.output_folder(arguments)
    report_code = _train(planned, output, arguments)
    merged = api.merge(output)
    print()
    show_merged(merged)
    _say_where(merged, output)
    return report_code or (1 if exit_code(merged) == 1 else 0)


def _on_this_machine(planned: api.Plan, arguments: argparse.Namespace) -> api.Plan:
    ranks, workers = arguments.devices_per_run, arguments.num_workers
    if (ranks is not None and ranks < 1) or (workers is not None and workers < 0):
        raise UsageError("--devices-per-run takes 1 or more, --num-workers 0 or more")
    return replace(
        planned, runs=tuple(_with_resources(run, ranks, workers) for run in planned.runs)
    )


def _with_resources(run: Run, ranks: int | None, workers: int | None) -> Run:
    resources = replace(
        run.resources,
        devices_per_run=run.resources.devices_per_run if ranks is None else ranks,
        num_workers=run.resources.num_workers if workers is None else workers,
    )
    batch = run.config.get("global_batch") if run.experiment else None
    if isinstance(batch, int) and batch % resources.devices_per_run:
        raise UsageError(
            f"--devices-per-run {resources.devices_per_run} does not divide the global batch "
            f"{batch} of {run.run_id}: choose a divisor"
        )
    return replace(run, resources=resources)


def _train(planned: api.Plan, output: Path, arguments: argparse.Namespace) -> int:
    settings = api.local_settings(
        planned,
        devices=arguments.devices,
        data_root=arguments.data_root,
        weights=arguments.weights,
        cache_dir=arguments.cache_dir,
        grace_s=arguments.grace,
    )
    for note in settings.devices.notes:
        print(f"note     {note}", file=sys.stderr)
    print(
        f"{len(planned.runs)} runs of study {planned.sweep.study!r} into {output} "
        f"on {', '.join(settings.devices.slots)} ({settings.devices.kind})",
        file=sys.stderr,
    )
    form = format_of(planned.sweep)
    metric = planned.sweep.metric
    with shown(len(planned.runs), lambda value: f"{metric} {form.value(value)}") as report:
        return api.run(planned, output, settings, report=report).exit_code


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
