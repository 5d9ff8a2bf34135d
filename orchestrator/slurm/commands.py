"""Calls of SLURM's commands: always with a time-out, because a dead controller answers nobody."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from merge.errors import NoAnswerError, SchedulerError, UsageError

_SUBMIT_TIMEOUT_S = 60.0
ASK_TIMEOUT_S = 8.0
DEFAULT_MAX_ARRAY_SIZE = 1001
"""Of a cluster whose slurm.conf names none."""
_OF_CLIENT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
_ANSWER_LOST = re.compile(
    r"(?i)timed out|zero bytes|receive failure|unexpected message|insane message"
)
"""In what a command says where its request may have reached the controller, the answer not it."""
_OPTION = re.compile(r"^#SBATCH --([a-z0-9-]+)", re.MULTILINE)
_SET_BY = {
    "array": ("array-inx",),
    "time": ("timelimit",),
    "mem": ("mem-per-node", "mem-per-cpu", "mem-per-gpu"),
    "requeue": ("requeue", "no-requeue"),
}
"""Option of sbatch -> the variables that set it, where it is not the one of its name."""
_MAX_ARRAY_SIZE = re.compile(r"^MaxArraySize\s*=\s*(\d+)\s*$", re.MULTILINE)


def call(words: Sequence[str], *, timeout_s: float = ASK_TIMEOUT_S) -> str:
    """What the command prints.

    SchedulerError where it fails or gives no answer, UsageError where it is not here.
    """
    return _run(words, os.environ, timeout_s)


def max_array_size() -> int:
    """The cluster's limit on the number of tasks of an array."""
    told = call(["scontrol", "show", "config"], timeout_s=_SUBMIT_TIMEOUT_S)
    match = _MAX_ARRAY_SIZE.search(told)
    if match is None or int(match[1]) < 1:
        raise SchedulerError(
            "`scontrol show config` names no MaxArraySize: this cluster takes no job arrays"
        )
    return int(match[1])


def sbatch(script: Path, options: Sequence[str] = ()) -> str:
    """Submit `script` and return the job's id.

    SchedulerError with SLURM's own words where it refuses, NoAnswerError where the job may be
    queued all the same.
    """
    from submitit.core.utils import FailedSubmissionError
    from submitit.helpers import clean_env
    from submitit.slurm.slurm import SlurmExecutor

    overruled = _overruled(script.read_text("utf-8"))
    wishes = {
        key: value
        for key, value in os.environ.items()
        if _is_of_client(key) and key not in overruled
    }
    # What this process inherited from a job of its own would be taken for the new job's.
    with clean_env():
        environment = {**os.environ, **wishes}
    told = _run(["sbatch", *options, str(script)], environment, _SUBMIT_TIMEOUT_S)
    try:
        job: str = SlurmExecutor._get_job_id_from_submission_command(told)
    except FailedSubmissionError as error:
        raise NoAnswerError(f"sbatch gave no job id for {script}: {told.strip()!r}") from error
    return job


def _overruled(script: str) -> set[str]:
    """Variables by which sbatch would set what the script sets: it believes them more."""
    names = [name for option in _OPTION.findall(script) for name in _SET_BY.get(option, (option,))]
    # With `wait` sbatch comes back only when the job has ended.
    return {f"SBATCH_{name.replace('-', '_').upper()}" for name in (*names, "wait")}


def _is_of_client(name: str) -> bool:
    """Whether a variable tells sbatch what a person wants, or where the cluster is."""
    return name.startswith("SBATCH_") or name in _OF_CLIENT


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
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        is_lost = done.returncode < 0 or _ANSWER_LOST.search(said)
        kind = NoAnswerError if is_lost else SchedulerError
        raise kind(f"{words[0]}: {_without_prefix(said, words[0])}")
    return done.stdout


def _without_prefix(said: str, command: str) -> str:
    return said.removeprefix(f"{command}: ").removeprefix("error: ")
