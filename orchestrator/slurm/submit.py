"""Submitting: scripts are written, sent, and recorded as soon as SLURM accepts them."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from merge.errors import NoAnswerError, SchedulerError
from merge.storage.atomic import write_atomic
from merge.storage.json_files import write_json
from merge.storage.paths import SubmissionPaths, SweepPaths
from orchestrator.machine.own_modules import module_words
from orchestrator.runs.requests import user_name
from orchestrator.slurm.arrays import Array
from orchestrator.slurm.commands import sbatch
from orchestrator.slurm.record import SentArray, Submission
from orchestrator.slurm.request import SlurmRequest
from orchestrator.slurm.script import BatchJob, batch_text

GRACE_MARGIN_S = 20
"""Of the time between a task's signal and its end what its trainers do not get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """All that is to be sent: made once, then shown (`--dry-run`) or sent."""

    id: str
    study: str
    output: Path
    """Absolute."""
    cwd: Path
    arrays: tuple[Array, ...]
    machine: tuple[str, ...] = ()
    """Flags of `replicate work` about folders."""
    has_merge: bool = True
    snapshot: str | None = None
    """The frozen copy of the code that the jobs run; None for what lies there when they start."""

    @property
    def paths(self) -> SubmissionPaths:
        return SweepPaths(self.output).submission(self.id)

    @property
    def is_chained(self) -> bool:
        """Whether arrays wait for each other: a limit on tasks at work holds for all together."""
        return any(array.request.max_parallel for array in self.arrays)


def new_submission_id(now: float) -> str:
    """`20261121-081500-1f3a`: sorts by time, and two at one moment differ."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(2)}"


def array_job(parcel: Parcel, array: Array) -> BatchJob:
    """The batch job of one array."""
    resources, request = array.resources, array.request
    command = (
        # SLURM signals steps: a batch script alone learns of a pre-emption only when it is killed.
        *("srun", "--nodes=1", "--ntasks=1", "--overlap", "--unbuffered"),
        f"--cpus-per-task={request.cpus_per_task}",
        *_replicate(parcel, "work", str(parcel.output)),
        *("--submission", parcel.id, "--array", array.name),
        *("--devices-per-run", str(resources.devices_per_run)),
        *("--num-workers", str(resources.num_workers)),
        # The worker must have told SLURM to requeue it before the time is over.
        *("--grace", str(max(5, request.signal_s - GRACE_MARGIN_S))),
        *(("--snapshot", parcel.snapshot) if parcel.snapshot else ()),
        *parcel.machine,
    )
    return BatchJob(
        name=array.name,
        job_name=f"papergrid-{parcel.study}",
        request=request,
        command=command,
        cwd=parcel.cwd,
        logs=parcel.paths.logs,
        num_nodes=resources.nodes,
        num_tasks=len(array.tasks),
    )


def merge_job(parcel: Parcel) -> BatchJob:
    """The job that merges when all arrays have ended, in the queue of the first of them."""
    first = parcel.arrays[0].request
    return BatchJob(
        name="merge",
        job_name=f"papergrid-{parcel.study}-merge",
        request=SlurmRequest(
            partition=first.partition,
            account=first.account,
            qos=first.qos,
            setup=first.setup,
            cpus_per_task=1,
        ),
        command=_replicate(parcel, "merge", str(parcel.output)),
        cwd=parcel.cwd,
        logs=parcel.paths.logs,
    )


def after(sent: Sequence[str]) -> tuple[str, ...]:
    """Options of sbatch that have a job wait for the ends, good or bad, of the jobs `sent`."""
    return (f"--dependency=afterany:{':'.join(sent)}",) if sent else ()


def send(parcel: Parcel) -> Submission:
    """Write all scripts, submit them, record the job ids.

    SchedulerError where SLURM refuses: what it had accepted until then is recorded and told.
    Should this process die, an array that was accepted is found in the queue by its script.
    """
    texts = {array.name: batch_text(array_job(parcel, array)) for array in parcel.arrays}
    if parcel.has_merge:
        texts["merge"] = batch_text(merge_job(parcel))
    submission = Submission(
        id=parcel.id,
        created=time.time(),
        by=user_name(),
        host=os.uname().nodename,
        arrays=tuple(SentArray(name=array.name, tasks=array.tasks) for array in parcel.arrays),
        merge=SentArray(name="merge") if parcel.has_merge else None,
    )
    parcel.paths.logs.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomic(parcel.paths.script(name), partial(_write, text))
    # Before any job exists: a task that starts at once must find its runs.
    write_json(parcel.paths.record, submission.to_json())
    return _send_all(parcel, submission)


def _send_all(parcel: Parcel, submission: Submission) -> Submission:
    sent: list[str] = []
    for index, array in enumerate(submission.arrays):
        chain = after(sent[-1:] if parcel.is_chained else ())
        sent.append(_send(parcel, submission, index, chain))
        arrays = list(submission.arrays)
        arrays[index] = replace(array, job_id=sent[-1])
        submission = replace(submission, arrays=tuple(arrays))
        write_json(parcel.paths.record, submission.to_json())
    if submission.merge is not None:
        job = _send(parcel, submission, len(sent), after(sent))
        submission = replace(submission, merge=replace(submission.merge, job_id=job))
        write_json(parcel.paths.record, submission.to_json())
    return submission


def _send(parcel: Parcel, submission: Submission, index: int, chain: Sequence[str]) -> str:
    """Send the array of that index; the merge job where it is beyond them."""
    script = parcel.paths.script([*(a.name for a in submission.arrays), "merge"][index])
    try:
        return sbatch(script, chain)
    except SchedulerError as error:
        is_unsure = isinstance(error, NoAnswerError)
        # What surely is not there must not be looked for in the queue ever after.
        kept = submission.arrays[: index + is_unsure]
        write_json(parcel.paths.record, replace(submission, arrays=kept, merge=None).to_json())
        jobs = ", ".join(str(array.job_id) for array in submission.arrays[:index])
        accepted = f"jobs {jobs} are submitted and stay" if jobs else "nothing is queued"
        if is_unsure:
            accepted += ", but for this one, which may be queued all the same"
        raise type(error)(
            f"{error} (for {script}); {accepted}: correct the request, then give the same command "
            f"again: it sends only what is neither done nor queued"
        ) from error


def _write(text: str, file: IO[bytes]) -> None:
    file.write(text.encode("utf-8"))


def _replicate(parcel: Parcel, *words: str) -> tuple[str, ...]:
    frozen = parcel.snapshot and SweepPaths(parcel.output).snapshot(parcel.snapshot).papergrid
    return (*module_words(sys.executable, frozen or None, "replicate"), *words)
