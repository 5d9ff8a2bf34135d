"""Which of the planned runs `submit --slurm` sends, and which of them share a task."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from merge.records.sweep import Run
from merge.storage.paths import SweepPaths
from orchestrator.plan.plan import Plan
from replicate import api


def still_to_send(planned: Plan, output: Path, arguments: argparse.Namespace) -> dict[str, Run]:
    """The planned runs by id, without those that are done, cancelled or that SLURM still has."""
    from orchestrator.slurm.jobs import may_be_queued

    done = api.read_results(output) if SweepPaths(output).sweep.exists() else {}
    runs = {run.run_id: run for run in planned.runs if run.run_id not in done}
    if len(runs) < len(planned.runs):
        print(f"note     {len(planned.runs) - len(runs)} runs are done already", file=sys.stderr)
    runs, taken_back = _without_cancelled(runs, output, arguments)
    # The same command given twice must not queue a run twice.
    queued, hidden = may_be_queued(output, runs)
    if queued:
        tasks = ", ".join(sorted(set(queued.values())))
        print(f"note     {len(queued)} runs are queued already: {tasks}", file=sys.stderr)
    # Its task does not start a run that was cancelled: that one may be taken over.
    hidden = {run_id: why for run_id, why in hidden.items() if run_id not in taken_back}
    _note_hidden(output, hidden)
    return {id_: run for id_, run in runs.items() if id_ not in queued and id_ not in hidden}


def _note_hidden(output: Path, hidden: dict[str, tuple[str, str]]) -> None:
    """Say of which runs SLURM does not show the tasks here, and how they can be taken over."""
    from orchestrator.config.shell import quote

    by_reason: dict[str, list[str]] = {}
    for run_id, (_, reason) in hidden.items():
        by_reason.setdefault(reason, []).append(run_id)
    for reason, run_ids in by_reason.items():
        words = [word for run_id in run_ids for word in ("--run", run_id)]
        command = quote(["replicate", "cancel", str(output), *words])
        print(
            f"note     {len(run_ids)} runs may still be in SLURM's queue and are not sent again: "
            f"{reason}. To take them over: `{command}`, then this command with --retry-cancelled",
            file=sys.stderr,
        )


def _without_cancelled(
    runs: dict[str, Run], output: Path, arguments: argparse.Namespace
) -> tuple[dict[str, Run], set[str]]:
    """`runs` without cancelled ones, which no task would start; ids of those taken back now."""
    from orchestrator.runs.requests import cancellation

    paths = SweepPaths(output)
    cancelled = [run for run in runs.values() if cancellation(paths.run(run.path))]
    if arguments.retry_cancelled:
        # Here and not in the tasks: one that starts again would undo what was cancelled since.
        api.retry(output, cancelled, ["cancelled"], is_dry=arguments.dry_run)
        return runs, {run.run_id for run in cancelled}
    if cancelled:
        print(
            f"note     {len(cancelled)} runs are cancelled: --retry-cancelled sends them too",
            file=sys.stderr,
        )
    unwanted = {run.run_id for run in cancelled}
    return {run_id: run for run_id, run in runs.items() if run_id not in unwanted}, set()


def groups(planned: Plan, runs: dict[str, Run], arguments: argparse.Namespace) -> list[list[Run]]:
    """`runs` as tasks: one each, or as `--tasks` and `--shard-by` deal them out."""
    if arguments.tasks is not None:
        from orchestrator.plan.shards import shard_into

        # More tasks than runs would have nothing to do.
        shards = shard_into(tuple(runs.values()), min(arguments.tasks, max(1, len(runs))))
    elif arguments.shard_by:
        shards = planned.shards
    else:
        # A task per run: SLURM then balances, and a task that fails costs one run.
        return [[run] for run in runs.values()]
    # Shards of the whole selection, then without the runs that are done: they keep their members
    # when the command is given again.
    found = ([runs[r.run_id] for r in shard.runs if r.run_id in runs] for shard in shards)
    return [group for group in found if group]
