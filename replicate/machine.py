"""Training on this machine with the flags of `arguments.add_machine`, for `run` and `work`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from merge.errors import UsageError
from merge.sweep import Run
from replicate import api
from replicate.buckets import with_sync
from replicate.live import shown
from replicate.table import format_of

if TYPE_CHECKING:
    from orchestrator.happenings import Happening
    from orchestrator.local import LocalReport, LocalSettings


class Train(Protocol):
    """`api.run` and `api.work`."""

    def __call__(
        self,
        plan: api.Plan,
        output: Path,
        settings: LocalSettings | None,
        *,
        report: Callable[[Happening], None],
    ) -> LocalReport: ...


def on_this_machine(planned: api.Plan, arguments: argparse.Namespace) -> api.Plan:
    """`planned` with the ranks and loaders that the flags ask for. UsageError where they cannot."""
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


def train(door: Train, planned: api.Plan, output: Path, arguments: argparse.Namespace) -> int:
    """Run `planned` through `door` (`api.run` or `api.work`) and return its exit code."""
    from orchestrator.local_settings import among_others

    settings = api.local_settings(
        planned,
        devices=arguments.devices,
        data_root=arguments.data_root,
        weights=arguments.weights,
        cache_dir=arguments.cache_dir,
        grace_s=arguments.grace,
    )
    settings = among_others(settings, expiry_s=arguments.claim_expiry, stand_by=arguments.stand_by)
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
        return with_sync(
            arguments,
            planned,
            output,
            settings,
            lambda chosen: door(planned, output, chosen, report=report).exit_code,
            report,
        )
