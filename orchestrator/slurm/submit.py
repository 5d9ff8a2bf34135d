"""Submitting: write the scripts, call sbatch, record each job as soon as SLURM accepts it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import NoAnswerError, SchedulerError
from merge.storage.atomic import make_folder, write_bytes
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.control_paths import SubmissionPaths
from merge.storage.json_files import write_json
from merge.storage.paths import SweepPaths
from orchestrator.machine.own_modules import module_words
from orchestrator.runs.requests import user_name
from orchestrator.slurm.amounts import time_limit_s
from orchestrator.slurm.arrays import Array
from orchestrator.slurm.commands import sbatch
from orchestrator.slurm.record import ArrayRecord, SubmissionRecord
from orchestrator.slurm.request import SlurmRequest
from orchestrator.slurm.script import BatchJob, batch_text

_MERGE_MINUTES, _MERGE_MEMORY = 30, "2G"
_ADVICE = (
    "correct the request, then give the same command again: it sends only what is neither done nor "
    "queued"
)
_MERGE_ADVICE = (
    "only the job that merges in the end is missing, and each task merges after each of its runs "
    "anyway; --no-merge sends no such job"
)
_PLACES = ("reservation", "exclude", "wckey")
"""Options of sbatch that hold for the merge job too: where it may run, and for whom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSubmission:
    """All jobs of one submission: built once, then shown (`--dry-run`) or sent."""

    id: str
    study: str
    output: Path
    """Absolute."""
    cwd: Path
    arrays: tuple[Array, ...]
    machine: tuple[str, ...] = ()
    """Further flags of `replicate work`."""
    has_merge: bool = True
    cluster: str = ""
    """ClusterName of the cluster that gets the jobs; empty where it is not known."""
    snapshot: str | None = None
    """Digest of the frozen code that the jobs run; None: the code as it is when they start."""

    @property
    def paths(self) -> SubmissionPaths:
        return SweepPaths(self.output).submission(self.id)

    @property
    def is_chained(self) -> bool:
        """Whether arrays wait for each other, as `max_parallel` limits all of them together."""
        return any(array.request.max_parallel for array in self.arrays)


def array_job(submission: SlurmSubmission, array: Array) -> BatchJob:
    """The batch job of one array."""
    return BatchJob(
        name=array.name,
        job_name=f"papergrid-{submission.study}",
        request=array.request,
        command=_task_command(submission, array),
        cwd=submission.cwd,
        logs=submission.paths.logs,
        num_nodes=array.resources.nodes,
        num_tasks=len(array.tasks),
    )


def _task_command(submission: SlurmSubmission, array: Array) -> tuple[str, ...]:
    resources, request = array.resources, array.request
    return (
        # In a step, because SLURM's signals before a time limit or pre-emption go to steps: the
        # batch script alone would only get the SIGKILL. --overlap lets the srun of a run on several
        # nodes share these CPUs and GPUs instead of waiting for them for ever.
        *("srun", "--nodes=1", "--ntasks=1", "--overlap", "--unbuffered"),
        # Since 22.05 srun no longer inherits --cpus-per-task from the job.
        f"--cpus-per-task={request.cpus_per_task}",
        *_replicate(submission, request, "work", str(submission.output)),
        *("--submission", submission.id, "--array", array.name),
        *("--devices-per-run", str(resources.devices_per_run)),
        *("--num-workers", str(resources.num_workers)),
        # The worker must request its requeue before the time limit.
        *("--grace", str(request.grace_s)),
        *(("--snapshot", submission.snapshot) if submission.snapshot else ()),
        *submission.machine,
    )


def merge_job(submission: SlurmSubmission) -> BatchJob:
    """The job that merges when all arrays have ended, in the queue of the first of them.

    It asks for one core and little memory and time, and for none of what a training needs.
    """
    first = submission.arrays[0].request
    request = SlurmRequest(
        partition=first.partition,
        account=first.account,
        qos=first.qos,
        python=first.python,
        setup=first.setup,
        cpus_per_task=1,
        # Only where the arrays name theirs: some clusters refuse a request for memory, some demand
        # a time limit.
        mem=None if first.mem is None else _MERGE_MEMORY,
        time=None if first.time is None else _merge_time(first),
        sbatch={key: value for key, value in first.sbatch.items() if key in _PLACES},
    )
    return BatchJob(
        name="merge",
        job_name=f"papergrid-{submission.study}-merge",
        request=request,
        command=_replicate(submission, request, "merge", str(submission.output)),
        cwd=submission.cwd,
        logs=submission.paths.logs,
    )


def _merge_time(request: SlurmRequest) -> int:
    """In minutes; not more than the partition was found to allow."""
    limit_s = time_limit_s(request.time) or math.inf
    return math.ceil(min(limit_s / 60, _MERGE_MINUTES))


def after(sent: Sequence[str]) -> tuple[str, ...]:
    """Options of sbatch for a job that starts when the jobs `sent` have ended, also in failure."""
    return (f"--dependency=afterany:{':'.join(sent)}",) if sent else ()


def send(submission: SlurmSubmission, clock: Clock = SYSTEM_CLOCK) -> SubmissionRecord:
    """Write all scripts, submit them, record the job ids.

    SchedulerError where SLURM refuses one: the message names the jobs that it accepted before, and
    the record keeps them. If this process dies, the path of its script in the queue identifies an
    accepted array without a recorded id.
    """
    texts = {array.name: batch_text(array_job(submission, array)) for array in submission.arrays}
    if submission.has_merge:
        texts["merge"] = batch_text(merge_job(submission))
    record = SubmissionRecord(
        id=submission.id,
        created=clock.now(),
        by=user_name(),
        host=os.uname().nodename,
        arrays=tuple(
            ArrayRecord(
                name=array.name,
                tasks=array.tasks,
                grace_s=array.request.grace_s,
                num_raises=array.num_raises,
            )
            for array in submission.arrays
        ),
        merge=ArrayRecord(name="merge") if submission.has_merge else None,
        cluster=submission.cluster,
    )
    make_folder(submission.paths.logs)
    for name, text in texts.items():
        write_bytes(submission.paths.script(name), text.encode())
    # Before any job exists: a task can start before sbatch returns, and reads its runs from here.
    write_json(submission.paths.record, record.to_json())
    return _send_all(submission, record)


def _send_all(submission: SlurmSubmission, record: SubmissionRecord) -> SubmissionRecord:
    sent: list[str] = []
    for index, array in enumerate(record.arrays):
        chain = after(sent[-1:] if submission.is_chained else ())
        sent.append(_send(submission, record, index, chain))
        arrays = list(record.arrays)
        arrays[index] = replace(array, job_id=sent[-1])
        record = replace(record, arrays=tuple(arrays))
        write_json(submission.paths.record, record.to_json())
    if record.merge is not None:
        job = _send(submission, record, len(sent), after(sent))
        record = replace(record, merge=replace(record.merge, job_id=job))
        write_json(submission.paths.record, record.to_json())
    return record


def _send(
    submission: SlurmSubmission, record: SubmissionRecord, index: int, chain: Sequence[str]
) -> str:
    """Send the array with that index; the merge job has the index after the last array."""
    is_merge = index == len(record.arrays)
    script = submission.paths.script("merge" if is_merge else record.arrays[index].name)
    try:
        return sbatch(script, chain, is_small=is_merge)
    except SchedulerError as error:
        is_unsure = isinstance(error, NoAnswerError)
        # An array that SLURM certainly did not accept must not be searched in the queue later.
        kept = record.arrays[: index + is_unsure]
        write_json(submission.paths.record, replace(record, arrays=kept, merge=None).to_json())
        jobs = ", ".join(str(array.job_id) for array in record.arrays[:index])
        accepted = f"jobs {jobs} are submitted and stay" if jobs else "nothing is queued"
        if is_unsure:
            accepted += "; this one may be queued all the same"
        advice = _MERGE_ADVICE if is_merge else _ADVICE
        raise type(error)(f"{error} (for {script}); {accepted}: {advice}") from error


def _replicate(submission: SlurmSubmission, request: SlurmRequest, *words: str) -> tuple[str, ...]:
    frozen = (
        submission.snapshot
        and SweepPaths(submission.output).snapshot(submission.snapshot).papergrid
    )
    return (*module_words(request.python or sys.executable, frozen or None, "replicate"), *words)
