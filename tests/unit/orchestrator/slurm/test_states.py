"""The state of a run out of its files' state and SLURM's word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.runs.states import RunState, State
from orchestrator.slurm.queue import Queue, TaskRow
from orchestrator.slurm.states import with_queue

PENDING = RunState(state=State.PENDING)
STOPPED = RunState(state=State.PENDING, reason="stopped on request")
LOST = RunState(state=State.FAILED, reason="lost: its executor died", host="node1")
FAILED = RunState(state=State.FAILED, reason="CUDA out of memory", host="node1")
REQUESTED = RunState(state=State.CANCELLED, reason="cancelled by root")
RUNNING = RunState(state=State.RUNNING, host="node1")
STOPPING = RunState(
    state=State.RUNNING, host="node1", cancelled="cancelled by root, --retry-cancelled"
)


def queue_of(*rows: TaskRow) -> Queue:
    return Queue(rows={row.id: row for row in rows})


def row(state: str, task: str = "12_3", **fields) -> TaskRow:
    return TaskRow(id=task, state=state, **fields)


@pytest.mark.parametrize(
    ("before", "says", "state", "reason"),
    [
        (PENDING, row("PENDING", reason="Resources"), "pending", "queued in SLURM as 12_3 (Res"),
        (PENDING, row("RUNNING", nodes="node1"), "pending", "SLURM task 12_3, running on node1"),
        (STOPPED, row("PENDING", restarts=1), "pending", "12_3, restart 1; last attempt: stopped"),
        (PENDING, row("CANCELLED"), "cancelled", "by scancel (SLURM task 12_3); submit again"),
        (STOPPED, row("CANCELLED"), "cancelled", "by scancel (SLURM task 12_3)"),
        (LOST, row("CANCELLED"), "cancelled", "by scancel (SLURM task 12_3)"),
        (FAILED, row("CANCELLED"), "cancelled", "by scancel (SLURM task 12_3)"),
        (REQUESTED, row("CANCELLED"), "cancelled", "cancelled by root"),
        (REQUESTED, row("FAILED"), "cancelled", "cancelled by root"),
        (REQUESTED, None, "cancelled", "cancelled by root"),
        (FAILED, row("FAILED"), "failed", "CUDA out of memory"),
        (PENDING, row("FAILED"), "failed", "ended as FAILED and left no result"),
        (STOPPED, row("COMPLETED"), "failed", "ended as COMPLETED and left no result"),
        (
            PENDING,
            row("TIMEOUT"),
            "failed",
            "it reached its time limit before it could be requeued",
        ),
        (LOST, row("OUT_OF_MEMORY"), "failed", "memory ran out: request more with --mem"),
        (FAILED, row("PENDING"), "pending", "queued in SLURM as 12_3; last attempt: CUDA out"),
        (FAILED, row("RUNNING"), "failed", "CUDA out of memory"),
        (LOST, row("RUNNING", restarts=1, nodes="node2"), "pending", "12_3, running on node2; la"),
        (RUNNING, row("RUNNING", nodes="node1"), "running", ""),
        (RUNNING, row("COMPLETING", nodes="node1"), "running", ""),
        (RUNNING, row("CANCELLED", nodes="node1"), "cancelled", "by scancel (SLURM task 12_3)"),
        (RUNNING, row("CANCELLED", nodes="node2"), "running", ""),
        (RUNNING, row("PENDING", restarts=1), "running", ""),
        (RUNNING, None, "running", ""),
        (
            PENDING,
            None,
            "failed",
            "12_3 is no longer in the queue and left no result: submit again",
        ),
        (FAILED, None, "failed", "CUDA out of memory"),
        (
            PENDING,
            row("NODE_FAIL", is_history=True),
            "unknown",
            "history says NODE_FAIL of 12_3, which",
        ),
        (
            LOST,
            row("NODE_FAIL", is_history=True),
            "unknown",
            "history says NODE_FAIL of 12_3, which",
        ),
        (PENDING, row("RUNNING", is_history=True), "unknown", "history says RUNNING of 12_3"),
        (PENDING, row("CANCELLED", is_history=True), "cancelled", "by scancel (SLURM task 12_3)"),
        (RUNNING, row("NODE_FAIL", is_history=True, nodes="node1"), "running", ""),
        (RUNNING, row("RUNNING", is_history=True, nodes="node1"), "running", ""),
        (RUNNING, row("FAILED", is_history=True, nodes="node1"), "running", ""),
        (
            STOPPING,
            row("CANCELLED", nodes="node1"),
            "cancelled",
            "cancelled by root, --retry-cancelled",
        ),
        (STOPPING, row("FAILED", nodes="node1"), "cancelled", "cancelled by root"),
        (
            PENDING,
            row("PREEMPTED"),
            "pending",
            "pre-empted (SLURM task 12_3), and SLURM does not queue it again (its PreemptMode is "
            "CANCEL); submit again to resume",
        ),
        (LOST, row("PREEMPTED", is_history=True), "pending", "pre-empted (SLURM task 12_3)"),
        (RUNNING, row("PREEMPTED", nodes="node1"), "pending", "submit again to resume"),
        (
            PENDING,
            row("FAILED", nodes="node3", exit_code=127),
            "failed",
            "its task ended as FAILED with exit code 127 on node3 and left no result",
        ),
        (PENDING, row("NODE_FAIL"), "failed", "its node failed (SLURM task 12_3)"),
        (PENDING, row("SOMETHING_NEW"), "failed", "ended as SOMETHING_NEW"),
    ],
)
def test_files_and_queue_together_tell_the_state(before, says, state, reason):
    told = with_queue(before, ["12_3"], queue_of(*([says] if says else [])))
    assert told.state == state
    assert reason in told.reason


@pytest.mark.parametrize(
    ("before", "state"),
    [(PENDING, "unknown"), (STOPPED, "unknown"), (LOST, "failed"), (RUNNING, "running")],
)
def test_a_task_that_slurm_would_not_show_here_is_unknown_not_ended(before, state):
    queue = Queue(rows={}, hidden={"12_3": "ada submitted it"})
    told = with_queue(before, ["12_3"], queue)
    assert told.state == state
    assert ("its task 12_3 is not known: ada submitted it" in told.reason) == (state == "unknown")


@pytest.mark.parametrize(
    ("before", "state"),
    [(PENDING, "unknown"), (STOPPED, "unknown"), (FAILED, "failed"), (RUNNING, "running")],
)
def test_a_silent_scheduler_makes_nothing_a_failure_or_a_success(before, state):
    told = with_queue(before, ["12_3"], Queue(rows={}, problem="squeue gave no answer in 8 s"))
    assert told.state == state


def test_of_several_tasks_the_one_that_slurm_still_has_counts_else_the_latest():
    both = queue_of(row("RUNNING", "12_3"), row("CANCELLED", "15_0"))
    assert "SLURM task 12_3" in with_queue(PENDING, ["12_3", "15_0"], both).reason
    ended = queue_of(row("TIMEOUT", "12_3"), row("CANCELLED", "15_0"))
    assert "SLURM task 15_0" in with_queue(PENDING, ["12_3", "15_0"], ended).reason


STATES = ["PENDING", "RUNNING", "CANCELLED", "NODE_FAIL", "TIMEOUT", "FAILED", "COMPLETED", "X"]


@given(st.sampled_from(State), st.sampled_from(STATES), st.booleans(), st.booleans())
def test_slurm_makes_no_run_done_and_undoes_none(state, says, is_history, is_silent):
    queue = Queue(rows={}, problem="x") if is_silent else queue_of(row(says, is_history=is_history))
    told = with_queue(RunState(state=state), ["12_3"], queue)
    assert (told.state is State.DONE) == (state is State.DONE)
    if state in (State.DONE, State.UNKNOWN, State.CANCELLED):
        assert told == RunState(state=state)


def test_a_run_that_was_never_sent_is_none_of_slurm_s_business():
    assert with_queue(PENDING, [], Queue(rows={}, problem="down")) == PENDING
