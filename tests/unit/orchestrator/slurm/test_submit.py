"""Submitting, with fake SLURM commands on PATH: what is sent, in which order, what is recorded."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.sweeps import make_sweep, shell, write_sweep

from merge.errors import RequestRefusedError, SchedulerError
from merge.records.submissions import new_submission_id
from merge.storage.paths import SweepPaths
from orchestrator.slurm.arrays import plan_arrays
from orchestrator.slurm.cancel import CancelledTasks, cancel_tasks
from orchestrator.slurm.commands import cluster_settings
from orchestrator.slurm.jobs import may_be_queued
from orchestrator.slurm.record import read_submissions
from orchestrator.slurm.request import SlurmRequest
from orchestrator.slurm.submit import SlurmSubmission, send
from replicate import api


def planned(output: Path, count: int = 3, size: int = 1001, **request: object) -> SlurmSubmission:
    """`count` runs, one a task."""
    sweep = make_sweep(shell("true"), folds=count)
    write_sweep(output, sweep)
    wants = SlurmRequest(**request)
    arrays = plan_arrays([[run] for run in sweep.runs], lambda _: wants, size)
    return SlurmSubmission(
        id=new_submission_id(0.0), study="test", output=output, cwd=output, arrays=arrays
    )


def sent_jobs(fake: Path) -> list[dict]:
    return list(json.loads((fake / "jobs.json").read_text()).values())


def test_one_call_of_sbatch_sends_an_array_and_the_merge_waits_for_it(fake, tmp_path):
    submission = send(planned(tmp_path / "out", 1000))
    array, merge = sent_jobs(fake)
    assert "#SBATCH --array=0-999%1000" in array["script"]
    assert array["options"] == []
    assert merge["options"] == ["--dependency=afterany:1"]
    assert (submission.arrays[0].job_id, submission.merge.job_id) == ("1", "2")
    assert read_submissions(tmp_path / "out") == [submission]


def test_what_is_sent_is_written_down_before_slurm_has_it(fake, tmp_path):
    send(planned(tmp_path / "out", 2))
    array, merge = sent_jobs(fake)
    assert array["record"]["arrays"] == [
        {
            "name": "array-1",
            "tasks": [["run-fold0"], ["run-fold1"]],
            "job_id": None,
            "grace_s": 70,
            "num_raises": {},
        }
    ]
    assert merge["record"]["arrays"][0]["job_id"] == "1"


def test_a_task_works_in_a_step_and_has_asked_to_be_queued_again_before_its_time_is_over(
    fake, tmp_path
):
    send(planned(tmp_path / "out", signal_s=90, cpus_per_task=3))
    send(planned(tmp_path / "brief", signal_s=10))
    first, merge, brief, _ = (job["script"] for job in sent_jobs(fake))
    # SLURM's grace before a pre-emption signals steps, never the script alone.
    assert "exec srun --nodes=1 --ntasks=1 --overlap --unbuffered --cpus-per-task=3 " in first
    assert "--grace 70" in first
    assert "--grace 5" in brief
    assert "#SBATCH --cpus-per-task=1\n" in merge


def test_arrays_wait_for_each_other_only_where_tasks_at_work_are_limited(fake, tmp_path):
    send(planned(tmp_path / "free", 5, 2))
    assert [job["options"] for job in sent_jobs(fake)[:3]] == [[], [], []]
    send(planned(tmp_path / "limited", 5, 2, max_parallel=2))
    chained = [job["options"] for job in sent_jobs(fake)[4:]]
    assert chained == [
        [],
        ["--dependency=afterany:5"],
        ["--dependency=afterany:6"],
        ["--dependency=afterany:5:6:7"],
    ]


def test_what_was_accepted_before_a_refusal_is_recorded_and_told(fake, tmp_path):
    (fake / "refuse").write_text("2")
    refusal = r"invalid partition.*jobs 1 are submitted and stay"
    with pytest.raises(RequestRefusedError, match=refusal) as caught:
        send(planned(tmp_path / "out", 5, 2))
    assert caught.value.exit_code == 2
    (submission,) = read_submissions(tmp_path / "out")
    assert [array.job_id for array in submission.arrays] == ["1"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Invalid account or account/partition combination specified", 2),
        ("Invalid qos specification", 2),
        ("Requested node configuration is not available", 2),
        ("Memory specification can not be satisfied", 2),
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time", 75),
        ("Slurm temporarily unable to accept job, sleeping and retrying", 75),
        ("Unable to contact slurm controller (connect failure)", 75),
    ],
)
def test_a_refusal_that_only_a_person_can_mend_is_a_wrong_request(fake, tmp_path, message, code):
    sbatch = fake / "bin" / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "sbatch: error: {message}" >&2; exit 1\n')
    with pytest.raises(SchedulerError) as caught:
        send(planned(tmp_path / "out"))
    assert caught.value.exit_code == code


def test_the_merge_asks_for_little_and_goes_where_the_arrays_go(fake, tmp_path):
    places = {"reservation": "paper", "exclude": "bad[1-2]", "exclusive": True}
    wants = {"partition": "gpu", "account": "lab", "qos": "high", "gres": "gpu:8"}
    amounts = {"constraint": "a100", "mem": "500G", "time": "2-00", "cpus_per_task": 32}
    send(planned(tmp_path / "out", **wants, **amounts, sbatch=places))
    merge = sent_jobs(fake)[-1]["script"]
    lines = {line.removeprefix("#SBATCH --") for line in merge.splitlines() if "#SBATCH" in line}
    expected = {"partition=gpu", "account=lab", "qos=high", "cpus-per-task=1", "mem=2G"}
    assert expected | {"time=30", "reservation=paper", "exclude='bad[1-2]'"} <= lines
    assert not {line for line in lines if line.startswith(("gres", "constraint", "exclusive"))}


def test_a_refused_merge_costs_nothing_and_can_be_left_out(fake, tmp_path):
    (fake / "refuse").write_text("2")
    with pytest.raises(SchedulerError, match=r"jobs 1 are submitted.*--no-merge sends no such job"):
        send(planned(tmp_path / "out"))
    (submission,) = read_submissions(tmp_path / "out")
    assert [array.job_id for array in submission.arrays] == ["1"]


def test_the_python_of_the_nodes_runs_the_tasks_and_comes_first_on_their_path(fake, tmp_path):
    send(planned(tmp_path / "out", python="/opt/torch env/bin/python", setup=("module load x",)))
    for job in sent_jobs(fake):
        script = job["script"]
        assert "'/opt/torch env/bin/python' -P -u" in script
        path = script.index("export PATH='/opt/torch env/bin':\"$PATH\"")
        assert path < script.index("module load x")


def test_variables_of_a_person_s_count_only_for_what_the_script_leaves_open(
    fake, tmp_path, monkeypatch
):
    ours = ["PARTITION", "TIMELIMIT", "MEM_PER_CPU", "ARRAY_INX", "JOB_NAME", "SIGNAL"]
    ours += ["NO_REQUEUE", "OUTPUT", "RESERVATION", "WAIT"]
    for name in (*ours, "ACCOUNT", "QOS"):
        monkeypatch.setenv(f"SBATCH_{name}", "mine")
    wants = {"partition": "main", "time": 90, "mem": "4G", "sbatch": {"reservation": "paper"}}
    send(planned(tmp_path / "out", **wants))
    seen = sent_jobs(fake)[0]["environment"]
    left = {name for name in seen if name.startswith("SBATCH_")}
    assert left == {"SBATCH_ACCOUNT", "SBATCH_QOS"}, "sbatch believes them more than its script"


def test_a_job_that_submits_leaves_its_own_variables_behind(fake, tmp_path, monkeypatch):
    told = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "3", "RANK": "1", "SBATCH_ACCOUNT": "lab"}
    for name, value in {**told, "SLURM_CONF": "/etc/slurm.conf"}.items():
        monkeypatch.setenv(name, value)
    send(planned(tmp_path / "out"))
    seen = sent_jobs(fake)[0]["environment"]
    assert not {"SLURM_JOB_ID", "SLURM_CPUS_PER_TASK", "RANK"} & seen.keys()
    assert (seen["SBATCH_ACCOUNT"], seen["SLURM_CONF"]) == ("lab", "/etc/slurm.conf")
    assert os.environ["SLURM_JOB_ID"] == "7"


def test_the_limit_on_arrays_is_the_cluster_s(fake):
    (fake / "config").write_text("MaxArraySize            = 77\n")
    assert cluster_settings().largest_array() == 77
    (fake / "config").write_text("")
    with pytest.raises(SchedulerError, match="names no MaxArraySize"):
        cluster_settings().largest_array()


def test_a_task_of_a_failed_node_is_queued_once_whatever_history_says(fake, tmp_path):
    """SLURM's history shows NODE_FAIL while the task is queued again: to resubmit doubles it."""
    send(planned(tmp_path / "out", 3))
    (fake / "history").write_text("1_0|NODE_FAIL|node1\n1_1|COMPLETED|node1\n1_2|RUNNING|node1\n")
    (fake / "rows").write_text(
        "1_0|PENDING|BeginTime||1|N/A|1-00:00:00|0|\n1_1|COMPLETED|None|node1|0|N/A|1-00:00:00|0|\n"
    )
    assert may_be_queued(tmp_path / "out", [f"run-fold{n}" for n in range(3)])[0] == {
        "run-fold0": "1_0"
    }


def test_where_slurm_is_silent_nothing_is_submitted_or_cancelled_on_a_guess(fake, tmp_path):
    send(planned(tmp_path / "out", 2))
    (fake / "bin" / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm' >&2; exit 1\n")
    with pytest.raises(SchedulerError, match="Unable to contact slurm"):
        may_be_queued(tmp_path / "out", ["run-fold0"])
    with pytest.raises(SchedulerError, match="try again later"):
        cancel_tasks(tmp_path / "out", ["run-fold0"])


@pytest.fixture
def three(fake, tmp_path) -> Path:
    """The folder of three runs: one waits, one is running, the task of one has ended."""
    send(planned(tmp_path / "out", 3))
    (fake / "rows").write_text(
        "1_0|PENDING|None||0|N/A|1-00:00:00|0|\n1_1|RUNNING|None|node1|0|N/A|1-00:00:00|0|\n"
        "1_2|FAILED|x|n|0|N/A|1-00:00:00|0|\n"
    )
    return tmp_path / "out"


EVERYTHING = ["run-fold0", "run-fold1", "run-fold2"]


def test_a_waiting_task_is_cancelled_and_a_running_one_keeps_the_time_of_its_checkpoint(
    fake, three
):
    found = cancel_tasks(three, EVERYTHING)
    assert (found.ended, list(found.stopping)) == (("1_0",), ["1_1"])
    # The grace of its trainers, and half an expiry for the heartbeat that reads the request.
    assert found.stopping["1_1"] == pytest.approx(70 + 30, abs=20)
    assert "scancel 1_0" in (fake / "calls").read_text().splitlines()


def test_a_running_task_is_ended_at_once_on_demand(fake, three):
    assert cancel_tasks(three, EVERYTHING, kill=True).ended == ("1_0", "1_1")
    assert "scancel 1_0 1_1" in (fake / "calls").read_text().splitlines()


def test_a_task_that_still_runs_when_its_time_is_over_is_ended_by_the_same_command(fake, three):
    runs = api.runs_of(three)
    notes = api.cancel(three, runs)[1]
    assert notes[0] == "SLURM task 1_0: cancelled"
    assert notes[1].startswith("SLURM task 1_1: running; it stops after a checkpoint, within ")
    first = SweepPaths(three).run("run/fold1").request(1)
    os.utime(first, (first.stat().st_mtime - 101,) * 2)
    # The first request counts: each repetition would else give a hanging task more time.
    assert "SLURM task 1_1: cancelled" in api.cancel(three, runs)[1]


def test_a_task_that_has_other_runs_to_do_is_left_alone(fake, tmp_path):
    output = tmp_path / "out"
    sweep = make_sweep(shell("true"), folds=2)
    write_sweep(output, sweep)
    arrays = plan_arrays([sweep.runs], lambda _: SlurmRequest(), 9)
    send(SlurmSubmission(id="one", study="test", output=output, cwd=output, arrays=arrays))
    (fake / "rows").write_text("1_0|RUNNING|None|node1|0|N/A|1-00:00:00|0|\n")
    assert cancel_tasks(output, ["run-fold0"]) == CancelledTasks()
    assert list(cancel_tasks(output, ["run-fold0", "run-fold1"]).stopping) == ["1_0"]


def test_a_foreign_job_that_has_got_the_id_of_a_task_is_neither_counted_nor_cancelled(
    fake, tmp_path
):
    """Ids start anew on a cluster that was set up anew, and are others' on another cluster."""
    output = tmp_path / "out"
    sent = planned(output, 2)
    send(sent)
    own = f"/mount/out/submissions/{sent.id}/array-1.sbatch"
    (fake / "rows").write_text(
        f"1_0|RUNNING|None|node1|0|N/A|1-00:00:00|0|/home/me/train.sh\n1_1|RUNNING|None|node1|0|N/A|1-00:00:00|0|{own}\n"
    )
    runs = ["run-fold0", "run-fold1"]
    assert may_be_queued(output, runs)[0] == {"run-fold1": "1_1"}
    assert cancel_tasks(output, runs, kill=True).ended == ("1_1",)


def test_the_same_cancel_again_reaches_tasks_of_which_slurm_told_nothing_before(fake, tmp_path):
    output = tmp_path / "out"
    send(planned(output, 1))
    runs = api.runs_of(output)
    squeue = fake / "bin" / "squeue"
    answering = squeue.read_text()
    squeue.write_text("#!/bin/sh\necho 'Unable to contact slurm' >&2; exit 1\n")
    with pytest.raises(SchedulerError, match="give the same command again"):
        api.cancel(output, runs)
    squeue.write_text(answering)
    (fake / "rows").write_text("1_0|PENDING|Priority||0|N/A|1-00:00:00|0|\n")
    assert api.cancel(output, runs)[1] == ["SLURM task 1_0: cancelled"]
