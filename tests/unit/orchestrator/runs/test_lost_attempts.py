"""Why an attempt without a final record ended, from what its successor can see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from merge.records.records import AttemptRecord, Cause, Outcome, Owner
from orchestrator.runs.lost_attempts import describe_predecessor

HERE = Owner(host="node2", pid=7, pid_started="1", boot_id="boot-a/pid:[1]")
LOST = AttemptRecord(
    number=3,
    token="t",
    owner=replace(HERE, host="node1"),
    command=("true",),
    device="cpu",
    devices=("cpu0",),
    started=1.0,
    code={},
)


def in_job(restarts: int | None, task: str = "4") -> dict[str, object]:
    job = {"SLURM_JOB_ID": "99", "SLURM_ARRAY_JOB_ID": "95", "SLURM_ARRAY_TASK_ID": task}
    return {"job": job if restarts is None else {**job, "SLURM_RESTART_COUNT": str(restarts)}}


def found(lost: AttemptRecord, environment: dict[str, object], owner: Owner = HERE) -> str:
    return str(describe_predecessor([lost], owner, environment)["cause"])


def test_a_task_that_slurm_started_again_lost_its_node() -> None:
    lost = replace(LOST, environment=in_job(None))
    assert found(lost, in_job(1)) == Cause.NODE_FAILURE
    assert found(replace(LOST, environment=in_job(1)), in_job(2)) == Cause.NODE_FAILURE


@pytest.mark.parametrize("environment", [{}, {"job": {}}, in_job(None), in_job(1, task="5")])
def test_another_task_or_none_knows_only_that_it_is_lost(environment: dict[str, object]) -> None:
    assert found(replace(LOST, environment=in_job(None)), environment) == Cause.LOST


def test_a_job_that_is_no_array_is_told_by_its_id() -> None:
    lost = replace(LOST, environment={"job": {"SLURM_JOB_ID": "12"}})
    again = {"job": {"SLURM_JOB_ID": "12", "SLURM_RESTART_COUNT": "1"}}
    assert found(lost, again) == Cause.NODE_FAILURE


def test_another_boot_of_the_same_host_is_a_failure_of_the_machine() -> None:
    rebooted = replace(HERE, host="node1", boot_id="boot-b/pid:[1]")
    assert found(LOST, {}, rebooted) == Cause.NODE_FAILURE
    container = replace(HERE, host="node1", boot_id="boot-a/pid:[2]")
    assert found(LOST, {}, container) == Cause.LOST


def test_an_attempt_that_told_its_end_is_left_to_its_own_record() -> None:
    assert describe_predecessor([], HERE, {}) == {}
    assert describe_predecessor([replace(LOST, outcome=Outcome.FAILED)], HERE, {}) == {}
    assert (
        describe_predecessor([replace(LOST, outcome=Outcome.DONE), LOST], HERE, {})["attempt"] == 3
    )
