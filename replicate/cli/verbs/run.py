"""`replicate run` (the default command): train the selected runs on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import IncompleteError, PapergridError, StorageError
from merge.records.result import Result
from merge.records.sweep import Run
from merge.results.combine import Merged
from merge.results.outcome import exit_code
from merge.storage.paths import SweepPaths
from replicate import api
from replicate.cli import arguments as flags
from replicate.cli.evaluate_arguments import (
    add_evaluation,
    refuse_evaluation_flags,
    with_evaluation,
)
from replicate.cli.next_steps import (
    failed_lines,
    next_steps,
    quoted,
    status_command,
    without_view,
)
from replicate.cli.preflight import ready, refuse_without_trainer, unfinished
from replicate.cli.this_machine import print_note, settings_of, train
from replicate.cli.verbs import plan as plan_verb
from replicate.cli.verbs.merge import show_merged

if TYPE_CHECKING:
    from orchestrator.local.events import LocalReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    flags.add_run(parser)
    flags.add_check(parser)
    group = add_evaluation(parser)
    group.add_argument(
        "--eval-only",
        action="store_true",
        help="train nothing: as `replicate evaluate` with the study's output folder",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan and what is lacking; start nothing"
    )
    parser.add_argument(
        "--print-commands",
        action="store_true",
        help="print for each run a Python program, a torchrun line and an sbatch file that start "
        "it; write the plan, start nothing",
    )


def execute(arguments: argparse.Namespace) -> int:
    """The exit code of the training (docs/exit-codes.md); 1 also if a result is not counted."""
    if arguments.eval_only:
        return evaluate_here(flags.output_folder(arguments), arguments)
    refuse_evaluation_flags(arguments)
    return execute_plan(arguments)


def execute_plan(arguments: argparse.Namespace) -> int:
    """Do what the flags plan, on this machine; the exit code."""
    planned = plan_verb.plan_of_run(arguments)
    output = flags.output_folder(arguments)
    # Before the data is prepared, which can take hours; the training tells the notes.
    api.check_plan(planned, output, print_note if arguments.dry_run else None)
    if arguments.print_commands:
        from replicate.cli.print_commands import print_commands

        print_commands(planned, output, arguments)
        return 0
    if arguments.dry_run:
        print(plan_verb.plan_text(planned, output))
        ready(planned, output, arguments)
        return 0
    if arguments.prepare_only:
        return _prepare(planned.runs, arguments)
    if arguments.download:
        # First: a download of hours must not end in "no such GPU", or without torch.
        settings_of(planned, arguments)
        refuse_without_trainer(planned, output, arguments)
        if code := _prepare(unfinished(planned, output), arguments):
            return code
    settings = ready(planned, output, arguments)
    report = train(api.run, planned, output, arguments, settings)
    return _show_end(report, output, arguments)


def evaluate_here(trainings: Path, arguments: argparse.Namespace) -> int:
    """Evaluate the trainings in a folder on this machine; 3 where some have no result yet."""
    unfinished = with_evaluation(trainings, arguments)
    code = execute_plan(arguments)
    if not (arguments.dry_run or arguments.prepare_only or arguments.print_commands):
        # The trainings' own view shows the evaluation beside their table.
        api.merge(trainings)
    return code or (IncompleteError.exit_code if unfinished else 0)


def _show_end(report: LocalReport, output: Path, arguments: argparse.Namespace) -> int:
    """Merge, show the table and the next steps; the exit code of the command."""
    from merge.results.view import rebuild_with_results

    try:
        merged, results = rebuild_with_results(output)
    except (StorageError, OSError) as error:
        return without_view(report, output, error)
    print()
    # The runs that failed in this command are named below.
    show_merged(merged, output, names_failures=False)
    _show_files(merged, output, _write_reports(output, merged, results))
    status = status_command(output, arguments)
    for line in (*failed_lines(report, status), *next_steps(report, output, status)):
        print(line)
    # Not the merge's 3: a filtered command that did all its runs is done, although the table lacks
    # cells.
    return report.exit_code or (1 if exit_code(merged) == 1 else 0)


def _write_reports(output: Path, merged: Merged, results: Mapping[str, Result]) -> Sequence[Path]:
    """The files of the report; where they cannot be made, one line on stderr and none."""
    from replicate.report.gather import read_report, write_report

    try:
        written = write_report(output, read_report(output, merged, results), ("md", "html"))
    except (PapergridError, OSError) as error:
        # All is trained and merged: the exit code stays that of the training.
        later = quoted("replicate", "report", output)
        print(f"no report, `{later}` makes it later: {error}", file=sys.stderr)
        return ()
    return tuple(written.values())


def _prepare(runs: Sequence[Run], arguments: argparse.Namespace) -> int:
    from replicate.experiment_data import prepare_words, root_words, start

    if not runs:
        return 0
    words = [*prepare_words(runs), *root_words(arguments.data_root)]
    words += ["--cache-dir", str(api.cache_folder(arguments.cache_dir))]
    return start([*words, *(["--download"] if arguments.download else [])]).returncode


def _show_files(merged: Merged, output: Path, reports: Iterable[Path]) -> None:
    paths = SweepPaths(output)
    print(f"\nmerged results  {paths.results}")
    for path in reports:
        print(f"report          {path}")
    runs = [paths.run(run.path) for run in merged.sweep.runs]
    panels = sorted(str(path) for run in runs for path in run.pictures())
    if panels:
        print(f"panels          {panels[0]}" + (f" and {len(panels) - 1} more" * (len(panels) > 1)))
    if any(run.has_curves() for run in runs):
        print(f"curves          tensorboard --logdir {output}")
