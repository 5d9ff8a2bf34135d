"""Calls of SLURM's commands, always with a time-out: a dead controller blocks each for long."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.errors import NoAnswerError, RequestRefusedError, SchedulerError, UsageError
from orchestrator.machine.slurm_environment import batch_environment, command_environment

_SUBMIT_TIMEOUT_S = 60.0
QUERY_TIMEOUT_S = 8.0
"""With a dead controller each squeue blocks for 10 s (SLURM's MessageTimeout)."""
DEFAULT_MAX_ARRAY_SIZE = 1001
"""SLURM's own default: index 1000 is the last one."""
_ANSWER_LOST = re.compile(
    r"(?i)timed out|zero bytes|receive failure|unexpected message|insane message"
)
"""In errors after which the job may be queued: the request was sent, the answer got lost."""
_REFUSED = re.compile(
    r"(?i)\binvalid\b|unrecognized option|not available|can ?not be satisfied|unspecified"
    r"|not permitted|permission denied|violates|is required|not allowed"
)
"""In errors that the same request meets again."""
_LATER = re.compile(r"(?i)submit limit|temporarily|try again|unable to contact|draining")
"""In errors that may pass, although other words in them seem final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Settings of the cluster that answers here."""

    name: str
    """Its ClusterName; empty where it says none."""
    max_array_size: int
    """0 where it accepts no arrays."""
    hides_jobs: bool
    """Whether `PrivateData` hides the jobs of other users."""

    def largest_array(self) -> int:
        """Tasks that an array can have. SchedulerError where the cluster accepts no array."""
        if self.max_array_size < 1:
            raise SchedulerError(
                "`scontrol show config` names no MaxArraySize: this cluster accepts no job arrays"
            )
        return self.max_array_size


def call(words: Sequence[str], *, timeout_s: float = QUERY_TIMEOUT_S) -> str:
    """Run a command and return what it prints.

    SchedulerError where it fails, NoAnswerError where it gives no answer in `timeout_s` seconds,
    UsageError where the command is not installed.
    """
    return _run(words, command_environment(os.environ), timeout_s)


def cluster_settings(timeout_s: float = _SUBMIT_TIMEOUT_S) -> ClusterSettings:
    """What `scontrol show config` says. SchedulerError where the cluster gives no answer."""
    lines = call(["scontrol", "show", "config"], timeout_s=timeout_s).splitlines()
    pairs = (line.partition("=") for line in lines)
    found = {key.strip(): value.strip() for key, _, value in pairs}
    size = found.get("MaxArraySize", "")
    return ClusterSettings(
        name=found.get("ClusterName", ""),
        max_array_size=int(size) if size.isdecimal() else 0,
        # The names of what is private are separated by commas: `jobs,usage`.
        hides_jobs="jobs" in found.get("PrivateData", "").lower().split(","),
    )


def sbatch(script: Path, options: Sequence[str] = (), *, is_small: bool = False) -> str:
    """Submit `script` and return the job's id.

    `is_small`: it needs neither GPUs nor much memory. RequestRefusedError with SLURM's message
    where the request must be corrected, SchedulerError where it may be accepted later;
    NoAnswerError where the job may be queued although no id came back.
    """
    from submitit.core.utils import FailedSubmissionError
    from submitit.slurm.slurm import SlurmExecutor

    environment = batch_environment(os.environ, script.read_text("utf-8"), is_small=is_small)
    try:
        answer = _run(["sbatch", *options, str(script)], environment, _SUBMIT_TIMEOUT_S)
    except NoAnswerError:
        raise
    except SchedulerError as error:
        if _REFUSED.search(str(error)) and not _LATER.search(str(error)):
            raise RequestRefusedError(str(error)) from error
        raise
    try:
        job: str = SlurmExecutor._get_job_id_from_submission_command(answer)
    except FailedSubmissionError as error:
        raise NoAnswerError(f"sbatch gave no job id for {script}: {answer.strip()!r}") from error
    return job


def _run(words: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> str:
    try:
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
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
