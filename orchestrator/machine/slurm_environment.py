"""The environment of every SLURM command that papergrid starts. Pure.

SLURM's commands read hundreds of variables. SQUEUE_PARTITION hides tasks, SLURM_BITSTR_LEN shortens
ids, SBATCH_WAIT blocks, SLURM_CLUSTERS asks another cluster. Only what says where the cluster is
and who asks stays; sbatch also keeps the variables of `DEFAULTS`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})
"""Where the cluster is, and the token of a user."""
_OF_SLURM = re.compile(
    r"(SLURM|SLURMD|SBATCH|SQUEUE|SACCT|SCANCEL|SCONTROL|SALLOC|SRUN|SINFO|SSTAT|SPRIO|SUBMITIT)_"
)
_OF_A_RANK = frozenset(
    {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}
)
"""Of a job from which a person submits: they would reach the trainers of the new one."""

DEFAULTS = {
    "SBATCH_PARTITION": ("partition",),
    "SBATCH_ACCOUNT": ("account",),
    "SBATCH_QOS": ("qos",),
    "SBATCH_RESERVATION": ("reservation",),
    "SBATCH_WCKEY": ("wckey",),
    "SBATCH_CONSTRAINT": ("constraint",),
    "SBATCH_GRES": ("gres",),
    "SBATCH_GPUS": ("gpus", "gres"),
    "SBATCH_GPUS_PER_NODE": ("gpus-per-node", "gres"),
    "SBATCH_GPUS_PER_TASK": ("gpus-per-task", "gres"),
    "SBATCH_EXCLUSIVE": ("exclusive",),
    "SBATCH_MEM_PER_NODE": ("mem", "mem-per-cpu", "mem-per-gpu"),
    "SBATCH_MEM_PER_CPU": ("mem", "mem-per-cpu", "mem-per-gpu"),
    "SBATCH_MEM_PER_GPU": ("mem", "mem-per-cpu", "mem-per-gpu"),
    "SBATCH_TIMELIMIT": ("time",),
}
"""Variable with a person's default for sbatch -> the options that replace it, without dashes.

sbatch prefers a variable to the line in the script.
"""
_OF_A_SMALL_JOB = frozenset(list(DEFAULTS)[:5])
"""Those that also hold for a job that needs neither GPUs nor much memory."""

_OPTION = re.compile(r"^#SBATCH --([a-z0-9-]+)", re.MULTILINE)


def command_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """For commands that ask or cancel: nothing of SLURM's but where the cluster is; no locale."""
    kept = {key: value for key, value in inherited.items() if _stays(key)}
    return {**kept, "LC_ALL": "C"}


def batch_environment(
    inherited: Mapping[str, str], script: str, *, is_small: bool = False
) -> dict[str, str]:
    """For sbatch with the text `script`; the job inherits it.

    The person's locale stays, for the trainers. `is_small`: a job without GPUs, such as a merge.
    """
    kept = {key: value for key, value in inherited.items() if _stays(key) and key not in _OF_A_RANK}
    return {**kept, **used_defaults(inherited, script, is_small=is_small)}


def used_defaults(
    inherited: Mapping[str, str], script: str, *, is_small: bool = False
) -> dict[str, str]:
    """The variables with a person's defaults that apply to `script`, which leaves them open."""
    given = set(_OPTION.findall(script))
    names = _OF_A_SMALL_JOB if is_small else DEFAULTS
    return {
        name: inherited[name]
        for name, options in DEFAULTS.items()
        if name in names and name in inherited and not given & set(options)
    }


def _stays(name: str) -> bool:
    return name in _KEPT or not _OF_SLURM.match(name)
