"""The text of a batch script, made by submitit from a job description; pure.

submitit knows sbatch's options and quotes their values; what it would get wrong for us is set
here: no time limit of its own, set-up lines that stop at the first failure, a log path in which
`%` is no pattern, the step that the command runs in (docs/decisions/0007-slurm.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from merge.errors import UsageError
from orchestrator.config.shell import quote
from orchestrator.slurm.request import SlurmRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """One call of sbatch."""

    name: str
    """Of the script: array-1, merge."""
    job_name: str
    request: SlurmRequest
    command: tuple[str, ...]
    cwd: Path
    logs: Path
    num_nodes: int = 1
    num_tasks: int | None = None
    """Tasks of an array; None for a plain job."""


def batch_text(job: BatchJob) -> str:
    """The script. UsageError where a path holds a line break or a backslash."""
    from submitit.slurm.slurm import _make_sbatch_string

    asked = job.request
    text: str = _make_sbatch_string(
        command=f"exec {quote(job.command)}",
        folder=job.logs,
        job_name=job.job_name,
        partition=asked.partition,
        account=asked.account,
        qos=asked.qos,
        gres=asked.gres,
        constraint=asked.constraint,
        # submitit's own default would end every job after five minutes.
        time=_loose(asked.time),
        mem=_loose(asked.mem),
        cpus_per_task=asked.cpus_per_task,
        nodes=job.num_nodes,
        ntasks_per_node=1,
        setup=["set -e", *asked.setup] if asked.setup else None,
        wckey=_loose(None),
        stderr_to_stdout=True,
        use_srun=False,
        map_count=job.num_tasks,
        array_parallelism=asked.max_parallel or job.num_tasks or 1,
        additional_parameters=_own_options(job),
    )
    return text


def _loose(value: str | int | None) -> Any:  # noqa: ANN401
    """submitit leaves out what is None and writes text as it is, whatever its types say."""
    return value


def _own_options(job: BatchJob) -> dict[str, str | int | float | bool]:
    pattern = "%A_%a.log" if job.num_tasks else "%j.log"
    for path in (job.cwd, job.logs):
        if not str(path).isprintable() or "\\" in str(path):
            raise UsageError(
                f"SLURM cannot be given the path {str(path)!r}: it holds a line break or a "
                f"backslash; use another folder"
            )
    return {
        **{name: value for name, value in job.request.sbatch.items() if value is not False},
        # A % in a folder's name is no pattern.
        "output": str(job.logs).replace("%", "%%") + f"/{job.name}-{pattern}",
        "chdir": str(job.cwd),
        "requeue": True,
        "signal": f"USR2@{job.request.signal_s}",
    }
