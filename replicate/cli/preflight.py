"""What `run`, `submit` and `plan --check` refuse before anything is started: one list of it all."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import UsageError
from merge.storage.paths import SweepPaths
from orchestrator.plan.plan import Plan
from orchestrator.preflight import TRAINER, Problem, refuse
from replicate import api
from replicate.cli.this_machine import settings_of

if TYPE_CHECKING:
    from merge.records.sweep import Run
    from orchestrator.local.settings import LocalSettings


def unfinished(planned: Plan, output: Path) -> list[Run]:
    """The runs of `planned` that have no result in `output`."""
    paths = SweepPaths(output)
    return [run for run in planned.runs if not paths.run(run.path).has_result()]


def refuse_changed_runs(planned: Plan, output: Path) -> None:
    """RecordError with the runs of `planned` that were changed by hand in the plan of `output`."""
    from orchestrator.plan.freeze import as_planned_in, refuse_changed_runs

    refuse_changed_runs(output, as_planned_in(output, planned).runs)


def ready(planned: Plan, output: Path, arguments: argparse.Namespace) -> LocalSettings:
    """The settings for this machine. PreflightError with all that the runs lack on it."""
    settings, problems = None, []
    try:
        settings = settings_of(planned, arguments)
    except UsageError as error:
        if not arguments.check:
            raise
        problems.append(Problem("devices", str(error)))
    if arguments.check:
        problems += find_problems(planned, output, arguments)
    refuse(problems)
    assert settings is not None  # else there is a problem
    return settings


def refuse_without_trainer(planned: Plan, output: Path, arguments: argparse.Namespace) -> None:
    """PreflightError with what no download of data and weights will mend."""
    if arguments.check:
        found = find_problems(planned, output, arguments)
        refuse([problem for problem in found if problem.about in TRAINER])


def find_problems(planned: Plan, output: Path, arguments: argparse.Namespace) -> list[Problem]:
    """What the unfinished runs of `planned` lack on this machine, with its places by the flags."""
    return api.find_problems(
        planned,
        output,
        data_root=arguments.data_root,
        weights=arguments.weights,
        cache_dir=arguments.cache_dir,
    )
