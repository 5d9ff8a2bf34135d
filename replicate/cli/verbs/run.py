"""`replicate run` (the default command): train the selected runs on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import PapergridError, StorageError
from merge.records.result import Result
from merge.records.sweep import Run
from merge.results.combine import Merged
from merge.results.outcome import exit_code
from merge.storage.paths import SweepPaths
from replicate import api
from replicate.cli import arguments as flags
from replicate.cli.next_steps import next_steps, status_command, without_view
from replicate.cli.s3_arguments import sync_target
from replicate.cli.this_machine import on_this_machine, settings_of, train
from replicate.cli.verbs import plan as plan_verb
from replicate.cli.verbs.merge import show_merged

if TYPE_CHECKING:
    from orchestrator.local.events import LocalReport


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
    _add_data(parser.add_argument_group("data (`replicate prepare` has more flags)"))
    parser.add_argument("--dry-run", action="store_true", help="show the plan and start nothing")


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--download", action="store_true", help="first download and unpack missing data"
    )
    group.add_argument(
        "--prepare-only", action="store_true", help="prepare the data and train nothing"
    )


def execute(arguments: argparse.Namespace) -> int:
    """The exit code of the training (docs/exit-codes.md); 1 also if a result is not counted."""
    if arguments.from_scratch:
        arguments.settings.append("from_scratch=true")
    # A wrong URL or flag is refused before anything else is done.
    sync_target(arguments)
    planned = on_this_machine(plan_verb.plan_of(arguments), arguments)
    output = flags.output_folder(arguments)
    if arguments.dry_run:
        print(plan_verb.plan_text(planned, output))
        return 0
    if arguments.prepare_only:
        return _prepare(planned.runs, arguments)
    # Before the data is prepared: a download of hours must not end in "no such GPU".
    settings = settings_of(planned, arguments)
    if code := _make_data_ready(planned.runs, output, arguments):
        return code
    report = train(api.run, planned, output, arguments, settings)
    return _show_end(report, output, arguments)


def _show_end(report: LocalReport, output: Path, arguments: argparse.Namespace) -> int:
    """Merge, show the table and the next steps; the exit code of the command."""
    from merge.results.view import rebuild_with_results

    try:
        merged, results = rebuild_with_results(output)
    except (StorageError, OSError) as error:
        return without_view(report, output, error)
    print()
    show_merged(merged)
    _show_files(merged, output, _write_reports(output, merged, results))
    for line in next_steps(report, output, status_command(output, arguments)):
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
        print(f"no report, `replicate report {output}` makes it later: {error}", file=sys.stderr)
        return ()
    return tuple(written.values())


def _make_data_ready(runs: Sequence[Run], output: Path, arguments: argparse.Namespace) -> int:
    """Prepare or check the data once, instead of failing in every run; an exit code."""
    from replicate.experiment_data import check_data

    paths = SweepPaths(output)
    # Finished runs need no data: the table of a finished sweep can be shown on any machine.
    to_do = [run for run in runs if not paths.run(run.path).has_result()]
    if to_do and arguments.download:
        return _prepare(to_do, arguments)
    return check_data(to_do, arguments.data_root)


def _prepare(runs: Sequence[Run], arguments: argparse.Namespace) -> int:
    from replicate.experiment_data import prepare_words, root_words, start

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
