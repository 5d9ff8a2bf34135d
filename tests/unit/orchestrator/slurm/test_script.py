"""The text of batch scripts: what reaches sbatch, and what can never reach a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.errors import UsageError
from orchestrator.slurm.request import SlurmRequest
from orchestrator.slurm.script import BatchJob, batch_text


def job(**fields: object) -> BatchJob:
    values: dict[str, object] = {
        "name": "array-1",
        "job_name": "papergrid-demo",
        "request": SlurmRequest(),
        "command": ("python", "-m", "replicate"),
        "cwd": Path("/work"),
        "logs": Path("/cluster/logs"),
        "num_tasks": 3,
        **fields,
    }
    return BatchJob(**values)


def options(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH --") for line in text.splitlines() if "#SBATCH" in line]


def test_what_is_not_requested_is_left_to_the_cluster():
    assert options(batch_text(job())) == [
        "array=0-2%3",
        "chdir=/work",
        "job-name=papergrid-demo",
        "nodes=1",
        "ntasks-per-node=1",
        "open-mode=append",
        "output=/cluster/logs/array-1-%A_%a.log",
        "requeue",
        "signal=USR2@90",
    ]


def test_what_is_asked_for_is_asked_of_sbatch():
    request = SlurmRequest(
        partition="gpu",
        account="lab",
        qos="long",
        gres="gpu:4",
        constraint="a100|h100",
        time="1-12",
        mem="64G",
        cpus_per_task=12,
        max_parallel=2,
        signal_s=300,
        sbatch={"reservation": "paper", "exclusive": True, "spread-job": False},
    )
    told = options(batch_text(job(request=request, num_nodes=2)))
    assert told == [
        "account=lab",
        "array=0-2%2",
        "chdir=/work",
        "constraint='a100|h100'",
        "cpus-per-task=12",
        "exclusive",
        "gres=gpu:4",
        "job-name=papergrid-demo",
        "mem=64G",
        "nodes=2",
        "ntasks-per-node=1",
        "open-mode=append",
        "output=/cluster/logs/array-1-%A_%a.log",
        "partition=gpu",
        "qos=long",
        "requeue",
        "reservation=paper",
        "signal=USR2@300",
        "time=1-12",
    ]


def test_one_run_is_an_array_of_one_task():
    assert "array=0-0%1" in options(batch_text(job(num_tasks=1)))


def test_a_job_that_is_no_array_logs_under_its_own_number():
    told = options(batch_text(job(name="merge", num_tasks=None)))
    assert "output=/cluster/logs/merge-%j.log" in told
    assert not any(option.startswith("array") for option in told)


def test_a_percent_sign_in_a_folder_is_no_pattern():
    told = options(batch_text(job(logs=Path("/cluster/100%j/logs"))))
    assert "output=/cluster/100%%j/logs/array-1-%A_%a.log" in told


@pytest.mark.parametrize("field", ["cwd", "logs"])
@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x1bb"])
def test_a_path_that_an_option_cannot_hold_is_refused(field, name):
    with pytest.raises(UsageError, match="use another folder"):
        batch_text(job(**{field: Path("/work") / name}))


def test_a_failing_set_up_line_ends_the_job(tmp_path):
    request = SlurmRequest(setup=("false", "touch after"))
    text = batch_text(job(request=request, command=("touch", "worked")))
    done = subprocess.run(["bash", "-c", text], cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=4))
def test_a_command_s_words_reach_it_as_they_are(words):
    text = batch_text(job(command=("printf", "%s\\0", *words)))
    done = subprocess.run(["bash", "-c", text], capture_output=True, check=True)
    assert done.stdout.decode() == "".join(f"{word}\0" for word in words or [""])
