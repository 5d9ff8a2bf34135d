"""`replicate work --submission`: one task of a SLURM array, from its first start to its last."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from merge.errors import UsageError
from replicate import api
from replicate.machine import on_this_machine, train

if TYPE_CHECKING:
    from orchestrator.happenings import LocalReport


def work(arguments: argparse.Namespace) -> LocalReport:
    """Do the task's runs; have SLURM queue the task again where it was asked to stop meanwhile."""
    from merge.records import EXPIRY_S
    from orchestrator.slurm_worker import (
        queue_again,
        scheduler_signals,
        task_runs,
        work_until_settled,
    )

    if arguments.array is None:
        raise UsageError("--submission needs --array")
    with scheduler_signals() as asked:
        ids = task_runs(arguments.output, arguments.submission, arguments.array, os.environ)
        planned = on_this_machine(api.frozen_plan(arguments.output, ids), arguments)
        report = work_until_settled(
            lambda: train(api.work, planned, arguments.output, arguments),
            arguments.output,
            planned.runs,
            asked,
            EXPIRY_S,
        )
        if queue_again(report, asked, os.environ):
            print("stopped by SLURM: the task is queued again and goes on later", file=sys.stderr)
    return report
