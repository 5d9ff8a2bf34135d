"""`replicate work --submission`: one task of a SLURM array, from its first start to its last."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from merge.errors import UsageError
from orchestrator.plan.plan import Plan
from replicate import api
from replicate.cli.this_machine import on_this_machine, settings_of, train

if TYPE_CHECKING:
    from orchestrator.local.events import LocalReport


def work(arguments: argparse.Namespace) -> LocalReport:
    """Train the task's runs; queue the task again if SLURM stopped it before they were done."""
    from orchestrator.slurm.task import requeue_if_stopped, scheduler_signals, work_until_settled

    if arguments.array is None:
        raise UsageError("--submission needs --array")
    # Before anything else: SLURM may pre-empt a task in its first second.
    with scheduler_signals() as asked:
        nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
        planned = _planned(arguments, nodes)
        report = work_until_settled(
            lambda: _work_once(planned, arguments, nodes),
            arguments.output,
            planned.runs,
            asked,
            arguments.claim_expiry,
        )
        if requeue_if_stopped(report, asked, os.environ):
            print("stopped by SLURM: the task is queued again and continues later", file=sys.stderr)
    return report


def _planned(arguments: argparse.Namespace, nodes: int) -> Plan:
    """The runs of this task, as the executor on its first node sees them."""
    from orchestrator.slurm.task import task_runs

    ids = task_runs(arguments.output, arguments.submission, arguments.array, os.environ)
    planned = on_this_machine(api.frozen_plan(arguments.output, ids), arguments)
    return _of_one_node(planned, nodes)


def _work_once(planned: Plan, arguments: argparse.Namespace, nodes: int) -> LocalReport:
    from orchestrator.slurm.request import GRACE_MARGIN_S
    from orchestrator.slurm.task import why_stopped

    signal_s = arguments.grace + GRACE_MARGIN_S
    why = partial(why_stopped, environment=os.environ, signal_s=signal_s)
    settings = replace(settings_of(planned, arguments), nodes=nodes, why_stopped=why)
    return train(api.work, planned, arguments.output, arguments, settings)


def _of_one_node(planned: Plan, nodes: int) -> Plan:
    """`planned` as the first node's executor sees it: with the devices that a run has there."""
    runs = []
    for run in planned.runs:
        ranks, rest = divmod(run.resources.devices_per_run, nodes)
        if rest:
            raise UsageError(
                f"the {run.resources.devices_per_run} ranks of {run.run_id} cannot be divided "
                f"over the job's {nodes} nodes: submit with --nodes and --devices-per-run that fit"
            )
        runs.append(replace(run, resources=replace(run.resources, devices_per_run=ranks)))
    return replace(planned, runs=tuple(runs))
