"""`submit --slurm`: its flags, what it sends and what it prints."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merge.errors import UsageError
from merge.records.records import EXPIRY_S
from replicate import api
from replicate.cli import arguments as flags
from replicate.cli.next_steps import status_command
from replicate.cli.preflight import refuse_changed_runs
from replicate.cli.profile import profile_of
from replicate.cli.s3_arguments import sync_words
from replicate.cli.slurm_checks import (
    check_runs,
    check_submission,
    refuse_flags_of_a_machine,
    settings_of_cluster,
)
from replicate.cli.slurm_selection import groups, still_to_send
from replicate.cli.this_machine import frozen_code, on_this_machine, print_note
from replicate.cli.verbs import plan as plan_verb

if TYPE_CHECKING:
    from merge.records.sweep import Resources, Run
    from orchestrator.slurm.record import SubmissionRecord
    from orchestrator.slurm.request import SlurmRequest
    from orchestrator.slurm.submit import SlurmSubmission

_OPTIONS = {
    "partition": "partition to queue in",
    "account": "account to charge",
    "qos": "quality of service",
    "gres": "generic resources of a node, such as gpu:2 (default: a GPU a rank for device: cuda)",
    "constraint": "features that a node must have",
    "time": "time limit of a task: minutes, H:MM:SS or D-HH; the rest continues after a requeue",
    "mem": "memory of a node, such as 32G",
    "python": "Python of the nodes' environment with papergrid (default: this one)",
}
_KEYS = (*_OPTIONS, "cpus_per_task", "max_parallel", "signal_s", "setup")

_TASK_FLAGS = {
    "max_retries": None,
    "restart_stalled": None,
    "runs_per_gpu": 1,
    "gpus_in_use": None,
    "claim_expiry": EXPIRY_S,
}
"""Flags that are passed on to a task, unless they have these default values."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that only `--slurm` has."""
    group = parser.add_argument_group("SLURM (overrides the study's `resources: {slurm: ...}`)")
    for name, purpose in _OPTIONS.items():
        group.add_argument(f"--{name}", metavar=name.upper(), help=purpose)
    group.add_argument("--cpus-per-task", type=int, metavar="N", help="cores of a node")
    group.add_argument("--nodes", type=int, metavar="N", help="nodes that share a run's ranks")
    _add_inside_of_jobs(group)
    _add_division(group)


def _add_inside_of_jobs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--signal-s",
        type=int,
        metavar="SECONDS",
        help="how long before its time limit a task writes a checkpoint and stops (default: 90)",
    )
    group.add_argument(
        "--setup",
        action="append",
        metavar="LINE",
        help="shell line before the work, such as 'module load cuda'; may be repeated",
    )


def _add_division(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-parallel", type=int, metavar="N", help="at most N tasks running at a time"
    )
    group.add_argument(
        "--tasks",
        type=int,
        metavar="N",
        help="distribute the runs over N tasks (default: one task per run)",
    )
    group.add_argument(
        "--merge",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also send a job that merges the results after all tasks",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Submit, print the job ids and return at once; with --dry-run only show what would be sent."""
    submission = _submission(arguments)
    if not submission.arrays:
        print("nothing to submit: all selected runs are done or queued", file=sys.stderr)
        return 0
    check_submission(submission)
    if arguments.dry_run:
        _show(submission, as_json=arguments.json)
        return 0
    from orchestrator.slurm.submit import send

    record = send(submission)
    if arguments.json:
        print(json.dumps(record.to_json(), indent=1))
    else:
        print("\n".join(_lines(record, submission)))
    return 0


def _submission(arguments: argparse.Namespace) -> SlurmSubmission:
    from merge.records.submissions import new_submission_id
    from orchestrator.slurm.amounts import check_time_limit
    from orchestrator.slurm.arrays import plan_arrays
    from orchestrator.slurm.submit import SlurmSubmission

    refuse_flags_of_a_machine(arguments)
    layers = _layers(arguments)
    planned = on_this_machine(plan_verb.plan_of(arguments), arguments)
    planned = replace(planned, runs=tuple(_on_nodes(run, arguments.nodes) for run in planned.runs))
    output = flags.output_folder(arguments).absolute()
    requests = [_request(run.resources, layers) for run in planned.runs]
    # Before the plan is written: nothing must be left behind where nothing can be sent.
    refuse_changed_runs(planned, output)
    if arguments.check:
        check_runs(planned, output, arguments, requests)
    for request in requests:
        check_time_limit(request)
    cluster = settings_of_cluster(is_dry=arguments.dry_run)
    if arguments.dry_run:
        api.check_plan(planned, output, print_note)
    else:
        api.freeze_plan(planned, output, print_note)
    runs = still_to_send(planned, output, arguments)
    return SlurmSubmission(
        id=new_submission_id(time.time()),
        study=planned.sweep.study,
        output=output,
        cwd=Path.cwd(),
        arrays=plan_arrays(
            groups(planned, runs, arguments),
            lambda resources: _request(resources, layers),
            cluster.largest_array(),
            _raises(output, runs, layers),
        ),
        cluster=cluster.name,
        machine=_machine(arguments),
        has_merge=arguments.merge,
        snapshot=frozen_code(planned, output, arguments),
    )


def _raises(
    output: Path, runs: dict[str, Run], layers: list[dict[str, Any]]
) -> dict[str, dict[str, int]]:
    """How often memory and time of each run are raised, where the study raises them."""
    from orchestrator.slurm.raises import needed_raises

    raising = [run for run in runs.values() if _request(run.resources, layers).raise_on_retry]
    return needed_raises(output, raising) if raising else {}


def _layers(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from orchestrator.slurm.request import check_flags

    # The same file may say what a cluster's jobs ask for.
    profile = profile_of(arguments).slurm if arguments.profile else {}
    return [dict(profile), check_flags({key: getattr(arguments, key) for key in _KEYS})]


def _request(resources: Resources, layers: list[dict[str, Any]]) -> SlurmRequest:
    from orchestrator.slurm.request import combine_layers

    return combine_layers([resources.slurm, *layers])


def _on_nodes(run: Run, nodes: int | None) -> Run:
    resources = run.resources if nodes is None else replace(run.resources, nodes=nodes)
    if resources.nodes < 1 or resources.devices_per_run % resources.nodes:
        raise UsageError(
            f"--nodes {resources.nodes}: the {resources.devices_per_run} ranks of {run.run_id} "
            f"cannot be divided over them; --devices-per-run counts the ranks of all nodes"
        )
    if resources.nodes > 1 and resources.launcher != "torchrun":
        raise UsageError(
            f"--nodes {resources.nodes}: {run.run_id} has `launcher: none`, one process; give its "
            f"study `resources: {{launcher: torchrun}}`"
        )
    return replace(run, resources=resources)


def _machine(arguments: argparse.Namespace) -> tuple[str, ...]:
    words: list[str] = []
    for flag in ("data_root", "cache_dir", "weights"):
        value = getattr(arguments, flag)
        if value is not None:
            words += [f"--{flag.replace('_', '-')}", str(value.absolute())]
    for flag, default in _TASK_FLAGS.items():
        if (value := getattr(arguments, flag)) != default:
            words += [f"--{flag.replace('_', '-')}", str(value)]
    return (*words, *sync_words(arguments))


def _show(submission: SlurmSubmission, *, as_json: bool) -> None:
    from orchestrator.config.shell import quote
    from orchestrator.slurm.script import batch_text
    from orchestrator.slurm.submit import array_job, merge_job

    jobs = [array_job(submission, array) for array in submission.arrays]
    jobs += [merge_job(submission)] if submission.has_merge else []
    if as_json:
        document = {job.name: batch_text(job) for job in jobs}
        tasks = {array.name: array.tasks for array in submission.arrays}
        print(json.dumps({"id": submission.id, "scripts": document, "tasks": tasks}, indent=1))
        return
    for index, job in enumerate(jobs):
        after = _shown_dependency(submission, index)
        print(f"# sbatch {after}{quote([str(submission.paths.script(job.name))])}")
        print(batch_text(job))
    for array in submission.arrays:
        for number, task in enumerate(array.tasks):
            print(f"# {array.name} task {number}: {' '.join(task)}")


def _shown_dependency(submission: SlurmSubmission, index: int) -> str:
    names = [f"<{array.name}>" for array in submission.arrays][:index]
    if index < len(submission.arrays):
        names = names[-1:] if submission.is_chained else []
    return f"--dependency=afterany:{':'.join(names)} " if names else ""


def _lines(record: SubmissionRecord, submission: SlurmSubmission) -> list[str]:
    num_runs = sum(len(task) for array in record.arrays for task in array.tasks)
    lines = [f"submitted {num_runs} runs of study {submission.study!r} to SLURM"]
    for array in record.arrays:
        lines.append(f"  job {array.job_id}  {array.name}, {len(array.tasks)} tasks")
    if record.merge is not None:
        lines.append(f"  job {record.merge.job_id}  merges when they have ended")
    status = status_command(submission.output)
    return [*lines, f"logs   {submission.paths.logs}", f"next   {status}"]
