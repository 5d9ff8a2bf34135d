"""The text of a batch script, made by submitit from a job description; pure.

submitit knows the options of sbatch and quotes their values. Its defaults that do not fit are
replaced here: its time limit of five minutes, set-up lines that go on after a failure, `%` in log
paths, the step that the command runs in (docs/decisions/0007-slurm.md).
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
    """Name of the script: array-1, merge."""
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

    request = job.request
    text: str = _make_sbatch_string(
        command=f"exec {quote(job.command)}",
        folder=job.logs,
        job_name=job.job_name,
        partition=request.partition,
        account=request.account,
        qos=request.qos,
        gres=request.gres,
        constraint=request.constraint,
        # submitit's default would end every job after five minutes.
        time=_loose(request.time),
        mem=_loose(request.mem),
        cpus_per_task=request.cpus_per_task,
        nodes=job.num_nodes,
        ntasks_per_node=1,
        # submitit joins set-up lines without a check: `module load` could fail unnoticed.
        setup=_setup(request),
        # submitit's default is the key "submitit", which clusters that enforce wckeys refuse.
        wckey=_loose(None),
        stderr_to_stdout=True,
        # Tasks bring their own srun, with options that submitit cannot set; a merge needs none.
        use_srun=False,
        map_count=job.num_tasks,
        array_parallelism=request.max_parallel or job.num_tasks or 1,
        additional_parameters=_own_options(job),
    )
    return text


def _setup(request: SlurmRequest) -> list[str] | None:
    """Shell lines before the command: the folder of `python` first on PATH, then a person's."""
    lines = ["set -e", *request.setup] if request.setup else []
    if request.python and "/" in request.python:
        folder = quote([str(Path(request.python).parent)])
        lines = [f'export PATH={folder}:"$PATH"', *lines]
    return lines or None


def _loose(value: str | int | None) -> Any:  # noqa: ANN401
    """submitit leaves out None and writes text as it is, although its annotations forbid both."""
    return value


def _own_options(job: BatchJob) -> dict[str, str | int | float | bool]:
    pattern = "%A_%a.log" if job.num_tasks else "%j.log"
    for path in (job.cwd, job.logs):
        if not str(path).isprintable() or "\\" in str(path):
            raise UsageError(
                f"SLURM cannot use the path {str(path)!r}: it holds a line break, a backslash or a "
                f"byte that is no text; use another folder"
            )
    return {
        **{name: value for name, value in job.request.sbatch.items() if value is not False},
        # In the folder's name % must stay a character; only the file name has patterns.
        "output": str(job.logs).replace("%", "%%") + f"/{job.name}-{pattern}",
        "chdir": str(job.cwd),
        # Some sites set JobRequeue=0: then SLURM would not restart tasks of a failed node.
        "requeue": True,
        # Without `B:` the signal goes to the steps, not to the batch shell, which would die of it.
        "signal": f"USR2@{job.request.signal_s}",
    }
