"""What a person may ask of SLURM, where, and what is refused."""

from __future__ import annotations

import re

import pytest
from support.studies import COMMAND, study_of

from merge.errors import StudyError, UsageError
from orchestrator.slurm.request import SlurmRequest, check_flags, combine_layers
from orchestrator.studies.grid import expand
from orchestrator.studies.profiles import read_profile
from orchestrator.studies.slurm_schema import SlurmShape

SLURM = COMMAND + "resources: {slurm: {partition: gpu, time: 4:00:00, setup: [module load a]}}\n"


def test_the_stronger_layer_wins_and_lists_add_up():
    study = {"partition": "gpu", "mem": "8G", "setup": ["a"], "sbatch": {"comment": "x"}}
    profile = {"partition": "long", "setup": ["b"], "sbatch": {"reservation": "r"}}
    assert combine_layers([study, profile, {"mem": "9G"}]) == SlurmRequest(
        partition="long",
        mem="9G",
        setup=("a", "b"),
        sbatch={"comment": "x", "reservation": "r"},
    )


def test_a_study_tells_what_its_jobs_want_and_an_override_changes_only_what_it_names(tmp_path):
    text = SLURM + ("overrides:\n  - {when: {lr: 0.01}, set: {}, resources: {slurm: {mem: 64G}}}\n")
    told = {run.axes["lr"]: run.resources.slurm for run in expand(study_of(tmp_path, text))}
    base = {"partition": "gpu", "time": "4:00:00", "setup": ["module load a"]}
    assert told == {0.0001: base, 0.01: {**base, "mem": "64G"}}


@pytest.mark.parametrize(
    ("slurm", "told"),
    [
        ("{partitoin: gpu}", "unknown key: did you mean 'partition'?"),
        ("{time: soon}", "'soon' is not of SLURM's form, such as 90 (minutes), 4:00:00"),
        ("{mem: lots}", "'lots' is not of SLURM's form, such as 32G"),
        ('{partition: "gpu\\nrm -rf ~"}', "holds a line break"),
        ('{setup: ["a\\nb"]}', "holds a line break"),
        ('{account: ""}', "is empty"),
        ("{qos: 'a\\b'}", "holds a backslash, which sbatch would leave out"),
        ("{sbatch: {comment: 'a\\b'}}", "holds a backslash, which sbatch would leave out"),
        ("{cpus_per_task: 0}", "must be at least 1, not 0"),
        ("{sbatch: {array: 0-3}}", "array cannot be set here: papergrid numbers the tasks"),
        ("{sbatch: {output: x}}", "logs lie in the submission's folder"),
        ("{sbatch: {partition: x}}", "partition has a key of its own"),
        ("{sbatch: {cpus-per-task: 3}}", "cpus-per-task has a key of its own"),
        ("{sbatch: {wait: true}}", "wait cannot be set here: submit returns at once"),
        ("{sbatch: {parsable: true}}", "papergrid reads what sbatch prints"),
        ("{sbatch: {test-only: true}}", "--dry-run shows what would be sent"),
        ("{sbatch: {clusters: b}}", "submit on a host of that cluster"),
        ("{sbatch: {-p: x}}", "'-p' is no long option of sbatch"),
        ('{sbatch: {comment: "a\\n#SBATCH --x"}}', "holds a line break"),
    ],
)
def test_a_bad_request_is_refused_with_its_place(tmp_path, slurm, told):
    with pytest.raises(StudyError) as refused:
        study_of(tmp_path, COMMAND + f"resources: {{slurm: {slurm}}}\n")
    assert told in str(refused.value)
    assert "resources.slurm" in str(refused.value)
    profile = tmp_path / "cluster.yaml"
    profile.write_text(slurm)
    with pytest.raises(StudyError) as refused:
        read_profile(profile)
    assert told in str(refused.value)
    assert "cluster.yaml:1:" in str(refused.value)


def test_a_profile_is_a_request(tmp_path):
    profile = tmp_path / "cluster.yaml"
    profile.write_text("partition: gpu\ntime: 90\nsetup:\n  - module load cuda/12\n")
    assert read_profile(profile).slurm == {
        "partition": "gpu",
        "time": 90,
        "setup": ["module load cuda/12"],
    }


def test_a_set_up_line_is_shell_text_in_which_a_backslash_has_its_meaning():
    line = "export NAME=a\\ b"
    assert check_flags({"setup": [line]}) == {"setup": [line]}


def test_all_bad_flags_are_told_at_once():
    with pytest.raises(UsageError) as refused:
        check_flags({"time": "soon", "cpus_per_task": 0, "qos": None, "partition": "a\nb"})
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == [
        "--partition",
        "--time",
        "--cpus-per-task",
    ]


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ("{nodes: 2, launcher: torchrun}", "cannot be divided over 2 nodes"),
        ("{nodes: 2, devices_per_run: 2}", "needs `launcher: torchrun`"),
        ("{nodes: 0}", "must be at least 1, not 0"),
    ],
)
def test_nodes_that_do_not_fit_the_ranks_are_refused(tmp_path, resources, told):
    with pytest.raises(StudyError) as refused:
        study_of(tmp_path, COMMAND + f"resources: {resources}\n")
    assert told in str(refused.value)


def test_the_profile_of_the_documentation_loads(repository, tmp_path):
    page = (repository / "docs" / "slurm.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    profile = tmp_path / "cluster.yaml"
    profile.write_text(block)
    assert set(read_profile(profile).slurm) == set(SlurmShape.model_fields)
