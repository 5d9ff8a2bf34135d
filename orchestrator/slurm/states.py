"""The state of a run that was submitted to SLURM, from its files and the rows of its tasks. Pure.

The files win: done, cancelled, running and unknown stay so, except for a claim whose task SLURM
reports as ended on the claim's host. SLURM adds what files cannot show: that a run is queued, that
scancel ended it, or that its task ended without a final record. No answer is not a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.runs.states import LIVE_STATES, RunState, State
from orchestrator.slurm.queue import Queue, TaskRow

QUEUED = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
AT_WORK = frozenset(
    {"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
    | {"RESIZING", "RESV_DEL_HOLD"}
)
_PREEMPTED = "PREEMPTED"
_MAY_RETURN = frozenset({"NODE_FAIL", _PREEMPTED, "BOOT_FAIL"})
"""After these SLURM may requeue the task: in its history they are not final."""

_ENDS = {
    "TIMEOUT": "it reached its time limit before it could be requeued",
    "OUT_OF_MEMORY": "the kernel killed it because memory ran out: request more with --mem",
    "NODE_FAIL": "its node failed",
    "DEADLINE": "its deadline passed",
}
_SETTLED = (State.DONE, State.UNKNOWN, State.CANCELLED)


def is_active(row: TaskRow | None) -> bool:
    """Whether the task is still in SLURM's queue, pending or running."""
    return row is not None and not row.is_history and row.state in QUEUED | AT_WORK


def is_waiting(row: TaskRow) -> bool:
    """Whether no process of the task has started, or it waits to be started again."""
    return row.state in QUEUED or row.state == "CONFIGURING"


def is_over(row: TaskRow) -> bool:
    """Whether the task has ended for good."""
    if row.is_history and row.state in _MAY_RETURN:
        return False
    return row.state not in QUEUED | AT_WORK


def newest_task(tasks: Sequence[str], queue: Queue) -> str:
    """Of the tasks of a run, newest last, the one that is still active, else the newest."""
    return next((task for task in reversed(tasks) if is_active(queue.rows.get(task))), tasks[-1])


def with_queue(state: RunState, tasks: Sequence[str], queue: Queue) -> RunState:
    """`state` of a run, completed by the rows of its `tasks` (newest last) in `queue`."""
    if not tasks or state.state in _SETTLED:
        return state
    if queue.problem:
        return _without_answer(state, tasks[-1], queue.problem)
    task = newest_task(tasks, queue)
    row = queue.rows.get(task)
    if state.state in LIVE_STATES:
        return _after_end(state, row) if row and _has_ended_claim(state, row) else state
    if row is None:
        return _without_row(state, task, queue.hidden.get(task, ""))
    return _from_row(state, row)


def _from_row(state: RunState, row: TaskRow) -> RunState:
    if row.is_history and not is_over(row) and row.state != _PREEMPTED:
        reason = (
            f"SLURM's history says {row.state} of {row.id}, which is no longer in its queue; if it "
            f"does not come back, submit again"
        )
        return replace(state, state=State.UNKNOWN, reason=f"{reason}{_last(state)}")
    if row.state in QUEUED:
        return _pending(state, f"queued in SLURM as {row.id}{_why(row)}{_last(state)}")
    if row.state in AT_WORK:
        # The task goes on with its other runs; only a restarted task comes to this run again.
        if state.state is State.FAILED and not row.restarts:
            return state
        where = f" on {row.nodes}" if row.nodes else ""
        return _pending(state, f"in SLURM task {row.id}, {row.state.lower()}{where}{_last(state)}")
    return _after_end(state, row)


def _without_answer(state: RunState, task: str, problem: str) -> RunState:
    """Without an answer of SLURM a pending run may be queued, about to start, or cancelled."""
    if state.state is not State.PENDING:
        return state
    reason = f"submitted to SLURM as {task}, but SLURM does not answer now ({problem})"
    return replace(state, state=State.UNKNOWN, reason=reason)


def _has_ended_claim(state: RunState, row: TaskRow) -> bool:
    """Whether a claim that looks alive belongs to a task that SLURM reports as ended."""
    # Not by the history, which may be of an earlier start: the claim's heartbeat outweighs it. A
    # task leaves the queue minutes after its end, when its claim has expired.
    if row.is_history or not is_over(row):
        return False
    # The host is compared too: the run may by now be claimed by another task or server.
    return bool(state.host) and _short(state.host) in _nodes(row.nodes)


def _without_row(state: RunState, task: str, why_hidden: str) -> RunState:
    if state.state is State.FAILED:
        return state
    if why_hidden:
        reason = f"whether SLURM still has its task {task} is not known: {why_hidden}"
        return replace(state, state=State.UNKNOWN, reason=f"{reason}{_last(state)}")
    reason = f"its SLURM task {task} is no longer in the queue and left no result: submit again"
    return replace(state, state=State.FAILED, reason=f"{reason}{_last(state)}")


def _after_end(state: RunState, row: TaskRow) -> RunState:
    if state.cancelled:
        return replace(state, state=State.CANCELLED, cause=None, reason=state.cancelled)
    if row.state == _PREEMPTED:
        reason = (
            f"pre-empted (SLURM task {row.id}), and SLURM does not queue it again (its "
            f"PreemptMode is CANCEL); submit again to resume{_last(state)}"
        )
        return replace(state, state=State.PENDING, cause=None, reason=reason)
    if row.state == "CANCELLED":
        reason = f"by scancel (SLURM task {row.id}); submit again to resume{_last(state)}"
        return replace(state, state=State.CANCELLED, cause=None, reason=reason)
    known = _ENDS.get(row.state)
    if known is None and state.state is State.FAILED:
        return state
    end = known or f"its task ended as {row.state}{_where(row)} and left no result"
    reason = f"{end} (SLURM task {row.id}); submit again to resume{_last(state)}"
    return replace(state, state=State.FAILED, reason=reason)


def _pending(state: RunState, reason: str) -> RunState:
    return replace(state, state=State.PENDING, reason=reason)


def _where(row: TaskRow) -> str:
    code = f" with exit code {row.exit_code}" if row.exit_code else ""
    return f"{code} on {row.nodes}" if row.nodes else code


def _why(row: TaskRow) -> str:
    restarts = f", restart {row.restarts}" if row.restarts else ""
    return f" ({row.reason}{restarts})" if row.reason else restarts


def _last(state: RunState) -> str:
    return (
        f"; last attempt: {state.reason}" if state.reason and state.state not in LIVE_STATES else ""
    )


def _short(host: str) -> str:
    return host.partition(".")[0]


def _nodes(text: str) -> set[str]:
    """Host names in a node list without ranges; `gpu[1-4]`, of several nodes, gives none."""
    return set() if "[" in text else {_short(name) for name in text.split(",")}
