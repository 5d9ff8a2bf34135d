"""What SLURM says, read from outputs that real commands printed."""

from __future__ import annotations

import json

import pytest

from orchestrator.slurm.queue import (
    TaskRow,
    expand_ids,
    jobs_of_scripts,
    parse_sacct,
    parse_squeue,
    query_queue,
)

SQUEUE = """\
12_3|PENDING|Resources||0|N/A|1-00:00:00|0|
12_0|RUNNING|None|node1|0|N/A|UNLIMITED|0|/out/a | b/array-1.sbatch
12_1|COMPLETING|None|node[1-2]|2|N/A|1-00:00:00|0|
12_2|CANCELLED|None|node2|0|N/A|1-00:00:00|0|
13|PENDING|Dependency||0|N/A|1-00:00:00|0|
9_1|FAILED|JobLaunchFailure|node1|0|N/A|1-00:00:00|0|
14_0|PENDING|ReqNodeNotAvail, UnavailableNodes:node5|   |1|N/A|1-00:00:00|0|
14_1|RUNNING|None|node4|0|2026-11-24T22:10:42|1:05|0|
"""

SACCT = """\
12_0|COMPLETED|node1
12_0.batch|COMPLETED|node1
12_0.0|OUT_OF_MEMORY|node1
12_1|CANCELLED by 1000|node2
12_[2-4%2]|PENDING|None assigned
13|NODE_FAIL|node3
"""


def test_squeue_tells_state_reason_node_and_restarts():
    rows = {row.id: row for row in parse_squeue(SQUEUE)}
    assert list(rows) == ["12_3", "12_0", "12_1", "12_2", "13", "9_1", "14_0", "14_1"]
    assert rows["12_3"] == TaskRow(id="12_3", state="PENDING", reason="Resources", left_s=86400)
    assert rows["12_0"] == TaskRow(
        id="12_0", state="RUNNING", nodes="node1", script="/out/a | b/array-1.sbatch"
    )
    assert rows["12_1"].restarts == 2
    assert [row.id for row in rows.values() if row.was_preempted] == ["14_1"]
    assert rows["14_1"].left_s == 65
    assert rows["14_0"].reason == "ReqNodeNotAvail, UnavailableNodes:node5"


def test_sacct_tells_tasks_not_steps_and_who_cancelled_is_left_out():
    rows = {row.id: row.state for row in parse_sacct(SACCT)}
    assert rows == {
        "12_0": "COMPLETED",
        "12_1": "CANCELLED",
        "12_2": "PENDING",
        "12_3": "PENDING",
        "12_4": "PENDING",
        "13": "NODE_FAIL",
    }


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("7", ["7"]),
        ("7_4", ["7_4"]),
        ("7_[0-2,5%4]", ["7_0", "7_1", "7_2", "7_5"]),
        ("7_[1-9:4]", ["7_1", "7_5", "7_9"]),
        ("7.batch", []),
        ("7_[0-...]", []),
        ("slurm_load_jobs error: Unexpected message received", []),
    ],
)
def test_ids_of_arrays_are_spelled_out(name, tasks):
    assert expand_ids(name) == tasks


def test_jobs_are_known_by_the_scripts_they_were_submitted_with(fake):
    jobs = {7: {"path": '/out/it\'s "a | b"/submissions/x/array-1.sbatch'}, 8: {"path": "/b"}}
    (fake / "jobs.json").write_text(json.dumps(jobs))
    assert jobs_of_scripts("me") == {jobs[7]["path"]: "7", "/b": "8"}
    assert "--user=me" in (fake / "calls").read_text()


@pytest.mark.parametrize("text", ["", "\n", "error: something\n", "12_0|RUNNING\n", "12_0||x||0\n"])
def test_what_cannot_be_read_tells_nothing(text):
    assert list(parse_squeue(text)) == []
    assert list(parse_sacct(text)) == []


def test_all_jobs_are_asked_for_at_once_and_history_only_for_what_the_queue_has_no_more(fake):
    (fake / "rows").write_text("12_0|RUNNING|None|node1|0|N/A|1-00:00:00|0|\n")
    (fake / "history").write_text("11_0|TIMEOUT|node2\n12_0|PENDING|\n")
    queue = query_queue(["11_0", "12_0"])
    assert {task: row.state for task, row in queue.rows.items()} == {
        "11_0": "TIMEOUT",
        "12_0": "RUNNING",
    }
    first, second = (fake / "calls").read_text().splitlines()
    assert "--all" in first.split(), "those in hidden partitions too"
    assert "--jobs=11,12" in first
    assert "--states=all" in first.split(), "those that ended lately too"
    assert second.startswith("sacct")
    assert "--jobs=11" in second.split()


def test_a_task_that_ran_out_of_memory_is_failed_and_only_its_step_says_why(fake):
    (fake / "rows").write_text("1_0|FAILED|NonZeroExitCode|node1|0|N/A|1-00:00:00|0|\n")
    told = "1_{n}|FAILED|node1\n1_{n}.batch|FAILED|node1\n1_{n}.0|{step}|node1\n"
    history = [told.format(n=n, step=step) for n, step in enumerate(["OUT_OF_MEMORY"] * 2)]
    (fake / "history").write_text("".join([*history, told.format(n=2, step="FAILED")]))
    states = {task: row.state for task, row in query_queue(["1_0", "1_1", "1_2"]).rows.items()}
    assert states == {"1_0": "OUT_OF_MEMORY", "1_1": "OUT_OF_MEMORY", "1_2": "FAILED"}


def test_tasks_that_were_cancelled_together_while_they_waited_share_a_row(fake):
    """So printed by SLURM 22.05 after `scancel 12_2 12_3` of the tasks that still waited."""
    (fake / "rows").write_text(
        "12|CANCELLED|JobArrayTaskLimit||0|N/A|UNLIMITED|0|\n"
        "12_1|RUNNING|None|node1|0|N/A|UNLIMITED|0|\n"
    )
    rows = query_queue(["12_1", "12_2", "12_3"]).rows
    states = {task: rows[task].state for task in ("12_1", "12_2", "12_3")}
    assert states == {"12_1": "RUNNING", "12_2": "CANCELLED", "12_3": "CANCELLED"}


@pytest.mark.parametrize(("status", "code"), [("0", 0), ("768", 3), ("15", 143), ("139", 139)])
def test_an_exit_code_is_as_a_shell_counts(fake, status, code):
    (fake / "rows").write_text(f"12_0|FAILED|None|node1|0|N/A|UNLIMITED|{status}|\n")
    assert query_queue(["12_0"]).rows["12_0"].exit_code == code


def test_history_tells_exit_code_and_cluster(fake):
    (row,) = parse_sacct("12_0|FAILED|node1|7:0|lab\n12_0.batch|FAILED|node1|7:0|lab\n")
    assert (row.exit_code, row.cluster, row.is_history) == (7, "lab", True)


def test_a_job_that_left_the_queue_of_a_cluster_without_accounting_is_no_problem(fake):
    queue = query_queue(["11_0"])
    assert (queue.rows, queue.problem) == ({}, "")


def test_a_controller_that_does_not_answer_is_waited_for_only_so_long(fake):
    (fake / "hang").touch()
    queue = query_queue(["11_0"], timeout_s=0.2)
    assert queue.rows == {}
    assert queue.problem == "squeue gave no answer in 0 s"


def test_a_machine_without_slurm_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no squeue on this machine" in query_queue(["11_0"]).problem
