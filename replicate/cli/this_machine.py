"""Training on this machine with the flags of `arguments.add_machine`, for `run` and `work`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from merge.errors import UsageError
from merge.foreign_text import one_line
from orchestrator.machine.shared_memory import shortage_of
from orchestrator.plan.plan import Plan
from replicate import api
from replicate.cli.next_steps import push_command
from replicate.cli.s3_arguments import sync_target
from replicate.views.live import shown
from replicate.views.table import counted, format_of

if TYPE_CHECKING:
    from orchestrator.local.events import Listener
    from orchestrator.local.settings import LocalSettings
    from orchestrator.s3.url import BucketTarget
    from orchestrator.training import TrainingReport


class Train(Protocol):
    """`api.run` and `api.work`."""

    def __call__(  # noqa: PLR0913 (all but three by keyword)
        self,
        plan: Plan,
        output: Path,
        settings: LocalSettings | None = None,
        *,
        listeners: Sequence[Listener] = (),
        sync: BucketTarget | None = None,
        claims: BucketTarget | None = None,
        sync_patience_s: float = ...,
        progress: bool | None = ...,
    ) -> TrainingReport: ...


def on_this_machine(planned: Plan, arguments: argparse.Namespace) -> Plan:
    """`planned` with the ranks and loaders of the flags. UsageError where they do not fit."""
    _check_attempts(arguments)
    return api.with_resources(
        planned,
        devices_per_run=arguments.devices_per_run,
        num_workers=arguments.num_workers,
    )


def _check_attempts(arguments: argparse.Namespace) -> None:
    most, minutes = arguments.max_retries, arguments.restart_stalled
    if (most is not None and most < 0) or arguments.runs_per_gpu < 1:
        raise UsageError("--max-retries takes 0 or more, --runs-per-gpu 1 or more")
    if minutes is not None and not 0 < minutes < inf:
        raise UsageError("--restart-stalled takes a number of minutes above 0")
    # Also refuses nan, which argparse accepts as a float.
    if not 0 <= arguments.grace < inf:
        raise UsageError(f"--grace {arguments.grace:g}: give a number of seconds, 0 or more")


def _with_attempts(settings: LocalSettings, arguments: argparse.Namespace) -> LocalSettings:
    most, minutes = arguments.max_retries, arguments.restart_stalled
    retries = settings.retries if most is None else replace(settings.retries, most=most)
    seconds = None if minutes is None else minutes * 60
    return replace(settings, retries=retries, restart_stalled_s=seconds)


def settings_of(planned: Plan, arguments: argparse.Namespace) -> LocalSettings:
    """The settings that the flags give. UsageError where the devices cannot serve `planned`."""
    from orchestrator.local.settings import with_claim_expiry

    settings = api.local_settings(
        planned,
        devices=arguments.devices,
        data_root=arguments.data_root,
        weights=arguments.weights,
        cache_dir=arguments.cache_dir,
        grace_s=arguments.grace,
        gpus_in_use=arguments.gpus_in_use,
    )
    settings = replace(settings, begun=arguments.begun)
    settings = with_claim_expiry(
        settings, expiry_s=arguments.claim_expiry, stand_by=arguments.stand_by
    )
    return _with_attempts(settings, arguments)


def print_note(line: str) -> None:
    """Show a note on stderr."""
    print(f"note     {line}", file=sys.stderr)


def train(
    start: Train,
    planned: Plan,
    output: Path,
    arguments: argparse.Namespace,
    settings: LocalSettings | None = None,
) -> TrainingReport:
    """Train `planned` by `start` (`api.run` or `api.work`) and show its progress on stderr."""
    settings = _prepared(settings or settings_of(planned, arguments), planned, output, arguments)
    form = format_of(planned.sweep)
    metric = planned.sweep.metric
    target = sync_target(arguments)
    with shown(len(planned.runs), lambda value: f"{metric} {form.value(value)}") as view:
        report = start(
            planned,
            output,
            settings,
            listeners=[view],
            sync=target,
            claims=target if arguments.claims else None,
            sync_patience_s=arguments.sync_patience,
            # `view` shows it already.
            progress=False,
        )
    _show_unsent(report, arguments, output)
    return report


def _prepared(
    settings: LocalSettings, planned: Plan, output: Path, arguments: argparse.Namespace
) -> LocalSettings:
    """`settings` with shared GPUs and frozen code, as the flags say; prints what will run where."""
    notes: list[str] = []
    if arguments.runs_per_gpu > 1:
        settings, note = api.share_gpus(planned, output, settings, arguments.runs_per_gpu)
        notes.append(note)
    num_ranks = len(settings.devices.slots) * settings.runs_per_device
    if short := shortage_of(planned.runs, num_ranks):
        notes.append(short)
    if arguments.retry_cancelled:
        # Here and not in the executor: a run that is cancelled while this command runs stays so.
        api.retry(output, planned.runs, ["cancelled"])
    settings = _with_snapshot(settings, planned, output, arguments)
    for note in (*notes, *settings.devices.notes):
        print(f"note     {note}", file=sys.stderr)
    print(
        f"{counted(len(planned.runs), 'run')} of study {planned.sweep.study!r} into {output} "
        f"on {', '.join(settings.devices.slots)} ({settings.devices.kind})",
        file=sys.stderr,
    )
    return settings


def _show_unsent(report: TrainingReport, arguments: argparse.Namespace, output: Path) -> None:
    """What is not in the bucket, and the command that sends it."""
    unsent = report.unsent
    if unsent is None:
        return
    for issue in unsent.issues:
        print(one_line(f"not sent {issue.name}: {issue.reason}"), file=sys.stderr)
    if unsent.unsent_runs or unsent.is_view_outdated:
        what = f"{len(unsent.unsent_runs)} runs" if unsent.unsent_runs else "the merged JSON"
        print(
            f"{what} could not be sent: {unsent.reason}\nthis sends what is missing:\n"
            f"  {push_command(output, arguments.sync, arguments)}",
            file=sys.stderr,
        )


def _with_snapshot(
    settings: LocalSettings, planned: Plan, output: Path, arguments: argparse.Namespace
) -> LocalSettings:
    """`settings` with the frozen code of `--snapshot`: a new copy, or an existing one by name."""
    if not arguments.snapshot:
        return settings
    from orchestrator.local.settings import with_snapshot
    from orchestrator.plan.snapshot import load_snapshot

    digest = arguments.snapshot
    # `run --snapshot` is a switch; `work --snapshot DIGEST` names the copy that `submit` made.
    if digest is True:
        digest = frozen_code(planned, output, arguments)
    return with_snapshot(settings, load_snapshot(output, digest))


def frozen_code(planned: Plan, output: Path, arguments: argparse.Namespace) -> str | None:
    """With `--snapshot`, copy this code into the output folder; the digest of the copy.

    A dry run copies nothing and returns a placeholder.
    """
    from orchestrator.plan.snapshot import take_snapshot

    if not arguments.snapshot:
        return None
    if arguments.dry_run:
        return "SNAPSHOT"
    sweep = planned.sweep
    snapshot = take_snapshot(output, sweep.runs[0], Path.cwd(), sweep.code_files)
    print(f"note     snapshot {snapshot.digest}: {snapshot.description}", file=sys.stderr)
    return snapshot.digest
