"""Calls of SLURM's commands, always with a time-out: a dead controller blocks each for long."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from merge.errors import NoAnswerError, SchedulerError, UsageError

_SUBMIT_TIMEOUT_S = 60.0
QUERY_TIMEOUT_S = 8.0
"""With a dead controller each squeue blocks for 10 s (SLURM's MessageTimeout)."""
DEFAULT_MAX_ARRAY_SIZE = 1001
"""SLURM's own default: index 1000 is the last one."""
_CLIENT_VARIABLES = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
_ANSWER_LOST = re.compile(
    r"(?i)timed out|zero bytes|receive failure|unexpected message|insane message"
)
"""In errors after which the job may be queued: the request was sent, the answer got lost."""
_OPTION = re.compile(r"^#SBATCH --([a-z0-9-]+)", re.MULTILINE)
_SET_BY = {
    "array": ("array-inx",),
    "time": ("timelimit",),
    "mem": ("mem-per-node", "mem-per-cpu", "mem-per-gpu"),
    "requeue": ("requeue", "no-requeue"),
}
"""Option of sbatch -> the variables that set it, where their name is not `SBATCH_<option>`."""
_MAX_ARRAY_SIZE = re.compile(r"^MaxArraySize\s*=\s*(\d+)\s*$", re.MULTILINE)


def call(words: Sequence[str], *, timeout_s: float = QUERY_TIMEOUT_S) -> str:
    """Run a command and return what it prints.

    SchedulerError where it fails, NoAnswerError where it gives no answer in `timeout_s` seconds,
    UsageError where the command is not installed.
    """
    return _run(words, os.environ, timeout_s)


def max_array_size() -> int:
    """The cluster's MaxArraySize, which is the number of tasks that an array can have.

    SchedulerError where the cluster names none.
    """
    config = call(["scontrol", "show", "config"], timeout_s=_SUBMIT_TIMEOUT_S)
    match = _MAX_ARRAY_SIZE.search(config)
    # 0 is a valid setting: the cluster then refuses every array.
    if match is None or int(match[1]) < 1:
        raise SchedulerError(
            "`scontrol show config` names no MaxArraySize: this cluster accepts no job arrays"
        )
    return int(match[1])


def sbatch(script: Path, options: Sequence[str] = ()) -> str:
    """Submit `script` and return the job's id.

    SchedulerError with SLURM's message where it refuses; NoAnswerError where the job may be queued
    although no id came back.
    """
    from submitit.core.utils import FailedSubmissionError
    from submitit.helpers import clean_env
    from submitit.slurm.slurm import SlurmExecutor

    set_by_script = _variables_of_options(script.read_text("utf-8"))
    client = {
        key: value
        for key, value in os.environ.items()
        if _is_client_variable(key) and key not in set_by_script
    }
    # Inside a job (a notebook, an interactive node), SLURM_CPUS_PER_TASK and the like describe that
    # job; sbatch would copy them into the new one. submitit's clean_env removes SLURM_CONF too.
    with clean_env():
        environment = {**os.environ, **client}
    answer = _run(["sbatch", *options, str(script)], environment, _SUBMIT_TIMEOUT_S)
    try:
        job: str = SlurmExecutor._get_job_id_from_submission_command(answer)
    except FailedSubmissionError as error:
        raise NoAnswerError(f"sbatch gave no job id for {script}: {answer.strip()!r}") from error
    return job


def _variables_of_options(script: str) -> set[str]:
    """Variables that would override the options in the script: sbatch prefers the environment."""
    names = [name for option in _OPTION.findall(script) for name in _SET_BY.get(option, (option,))]
    # With SBATCH_WAIT sbatch returns only when the job has ended.
    return {f"SBATCH_{name.replace('-', '_').upper()}" for name in (*names, "wait")}


def _is_client_variable(name: str) -> bool:
    """Whether a variable holds defaults of the person for sbatch, or says where the cluster is."""
    return name.startswith("SBATCH_") or name in _CLIENT_VARIABLES


def _run(words: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> str:
    try:
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no {words[0]} on this machine: work where SLURM's commands are installed"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswerError(f"{words[0]} gave no answer in {timeout_s:.0f} s") from error
    if done.returncode != 0:
        message = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        # A command that a signal killed may have sent its request before.
        is_lost = done.returncode < 0 or _ANSWER_LOST.search(message)
        kind = NoAnswerError if is_lost else SchedulerError
        raise kind(f"{words[0]}: {_without_prefix(message, words[0])}")
    return done.stdout


def _without_prefix(message: str, command: str) -> str:
    return message.removeprefix(f"{command}: ").removeprefix("error: ")
