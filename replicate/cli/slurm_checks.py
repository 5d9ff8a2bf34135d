"""What `submit --slurm` checks and notes before anything is queued."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import SchedulerError, UsageError
from orchestrator.local.limits import GRACE_S
from orchestrator.preflight import Places, find_problems, refuse
from replicate import api
from replicate.cli.preflight import unfinished

if TYPE_CHECKING:
    from merge.records.sweep import Run
    from orchestrator.plan.plan import Plan
    from orchestrator.slurm.commands import ClusterSettings
    from orchestrator.slurm.request import SlurmRequest
    from orchestrator.slurm.submit import SlurmSubmission


def refuse_flags_of_a_machine(arguments: argparse.Namespace) -> None:
    """UsageError for flags that have no meaning in a queue."""
    if arguments.devices is not None:
        raise UsageError("--devices is for this machine: ask SLURM for GPUs with --gres gpu:N")
    # Refused, not ignored: the person would rely on a time that nothing keeps.
    if arguments.grace != GRACE_S:
        raise UsageError("--grace is for this machine: a task has until its end, see --signal-s")
    if arguments.stand_by:
        raise UsageError("--stand-by is for this machine: a task has runs of its own, leave it out")


def check_runs(
    planned: Plan, output: Path, arguments: argparse.Namespace, requests: Sequence[SlurmRequest]
) -> None:
    """PreflightError with all that the runs lack, as far as it can be seen from here.

    With a `python:` that is on the nodes only, packages, weights and data are not looked for; with
    set-up lines or a `python:` the programs of commands may come from them.
    """
    request_of = {run.run_id: one for run, one in zip(planned.runs, requests, strict=True)}
    groups: dict[tuple[str | None, bool], list[Run]] = {}
    for run in unfinished(planned, output):
        request = request_of[run.run_id]
        has_own_path = bool(request.setup or request.python)
        groups.setdefault((request.python, has_own_path), []).append(run)
    found = [
        problem
        for (python, has_own_path), runs in groups.items()
        for problem in find_problems(runs, _places(arguments, python, has_own_path=has_own_path))
    ]
    refuse(list(dict.fromkeys(found)))


def _places(arguments: argparse.Namespace, python: str | None, *, has_own_path: bool) -> Places:
    """Where runs find what they need if a job starts them with `python` (None: this one)."""
    is_here = python is None or shutil.which(python) is not None
    return Places(
        data_root=arguments.data_root and arguments.data_root.absolute(),
        weights=arguments.weights and arguments.weights.absolute(),
        cache_dir=api.cache_folder(arguments.cache_dir),
        python=(python or sys.executable) if is_here else None,
        has_own_path=has_own_path,
    )


def settings_of_cluster(*, is_dry: bool) -> ClusterSettings:
    """Those of the cluster; a dry run without a cluster takes SLURM's defaults."""
    from orchestrator.slurm.commands import (
        DEFAULT_MAX_ARRAY_SIZE,
        ClusterSettings,
        cluster_settings,
    )

    try:
        settings = cluster_settings()
        settings.largest_array()
    except (SchedulerError, UsageError) as error:
        if not is_dry:
            raise type(error)(
                f"{error}\nNothing was written or sent: submit where `scontrol show config` "
                f"answers, such as a login node; --dry-run shows the scripts anywhere"
            ) from error
        print(
            f"note     no cluster answers here ({error}): arrays are shown for SLURM's default "
            f"MaxArraySize, {DEFAULT_MAX_ARRAY_SIZE}",
            file=sys.stderr,
        )
        return ClusterSettings(name="", max_array_size=DEFAULT_MAX_ARRAY_SIZE, hides_jobs=False)
    return settings


def check_submission(submission: SlurmSubmission) -> None:
    """UsageError for a request that cannot work; notes about what a person may not expect."""
    from orchestrator.slurm.amounts import check_time_limit

    for array in submission.arrays:
        check_time_limit(array.request)
    _note_missing_gpus(submission)
    _note_raises(submission)
    _note_defaults(submission)


def _note_missing_gpus(submission: SlurmSubmission) -> None:
    from orchestrator.slurm.arrays import asks_for_gpus

    names = [
        array.name
        for array in submission.arrays
        if array.resources.device == "auto" and not asks_for_gpus(array.request)
    ]
    if names:
        _note(
            f"{', '.join(names)} asks for no GPU: its runs compute on CPUs; give --gres gpu:N for "
            f"GPUs"
        )


def _note_raises(submission: SlurmSubmission) -> None:
    for array in submission.arrays:
        for key in array.num_raises:
            if (amount := getattr(array.request, key)) is None:
                _note(f"{array.name} had too little {key}, and requests none to raise: --{key}")
            else:
                _note(f"{array.name} requests {key} {amount}: its runs had too little before")


def _note_defaults(submission: SlurmSubmission) -> None:
    """SBATCH_* variables that apply: they are not in the scripts."""
    from orchestrator.machine.slurm_environment import used_defaults
    from orchestrator.slurm.script import batch_text
    from orchestrator.slurm.submit import array_job

    used: dict[str, str] = {}
    for array in submission.arrays:
        used |= used_defaults(os.environ, batch_text(array_job(submission, array)))
    for name, value in used.items():
        _note(f"{name}={value} of your environment applies")


def _note(text: str) -> None:
    print(f"note     {text}", file=sys.stderr)
