"""The environment of SLURM's commands: none of a person's variables changes what they answer."""

from __future__ import annotations

import pytest

from orchestrator.machine.slurm_environment import batch_environment, command_environment

OF_A_PERSON = {
    "SQUEUE_PARTITION": "gpu",
    "SQUEUE_ALL": "1",
    "SACCT_FORMAT": "User",
    "SCANCEL_STATE": "PENDING",
    "SLURM_CLUSTERS": "other",
    "SLURM_TIME_FORMAT": "%s",
    "SLURM_BITSTR_LEN": "8",
    "SLURM_JOB_ID": "7",
    "SALLOC_ACCOUNT": "lab",
    "SBATCH_WAIT": "1",
    "SBATCH_CLUSTERS": "other",
    "SBATCH_EXPORT": "NONE",
    "SBATCH_ARRAY_INX": "0-9",
}
NEEDED = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "x", "PATH": "/bin", "HOME": "/home/me"}


def test_commands_see_only_where_the_cluster_is_and_speak_no_language_of_a_person():
    inherited = {**OF_A_PERSON, **NEEDED, "LC_ALL": "de_DE.UTF-8"}
    assert command_environment(inherited) == {**NEEDED, "LC_ALL": "C"}


def test_a_job_keeps_the_locale_of_its_sender_and_nothing_of_the_sender_s_own_job():
    inherited = {**OF_A_PERSON, **NEEDED, "LC_ALL": "de_DE.UTF-8", "RANK": "1", "WORLD_SIZE": "8"}
    assert batch_environment(inherited, "") == {**NEEDED, "LC_ALL": "de_DE.UTF-8"}


@pytest.mark.parametrize(
    ("script", "is_small", "kept"),
    [
        ("", False, {"SBATCH_ACCOUNT", "SBATCH_GRES", "SBATCH_MEM_PER_CPU"}),
        ("#SBATCH --account=a\n", False, {"SBATCH_GRES", "SBATCH_MEM_PER_CPU"}),
        ("#SBATCH --gres=gpu:1\n#SBATCH --mem=4G\n", False, {"SBATCH_ACCOUNT"}),
        ("", True, {"SBATCH_ACCOUNT"}),
    ],
)
def test_a_person_s_defaults_hold_where_a_script_leaves_them_open(script, is_small, kept):
    given = {"SBATCH_ACCOUNT": "lab", "SBATCH_GRES": "gpu:1", "SBATCH_MEM_PER_CPU": "4G"}
    found = batch_environment({**given, **OF_A_PERSON}, script, is_small=is_small)
    assert set(found) == kept
