"""The state of a run that was sent to SLURM: its files' state, and what SLURM says of its tasks.

Pure. The files win: what is done, cancelled, at work or unknown by them stays so, but for the claim
of a task whose end SLURM vouches for. SLURM's word completes what files cannot tell: that a run is
queued, was cancelled, or that its task ended without a word. No word is no failure.
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
_MAY_RETURN = frozenset({"NODE_FAIL", "PREEMPTED", "BOOT_FAIL"})
"""Ends after which SLURM queues a task again by itself: in its history, they are not final."""

_ENDS = {
    "TIMEOUT": "its time was over before it could be queued again",
    "OUT_OF_MEMORY": "killed for memory: ask for more with --mem",
    "NODE_FAIL": "its node failed",
    "DEADLINE": "its deadline passed",
}
_SETTLED = (State.DONE, State.UNKNOWN, State.CANCELLED)


def is_active(row: TaskRow | None) -> bool:
    """Whether SLURM still has the task, waiting or at work."""
    return row is not None and not row.is_history and row.state in QUEUED | AT_WORK


def with_queue(state: RunState, tasks: Sequence[str], queue: Queue) -> RunState:
    """`state` of a run, completed by what `queue` says of its `tasks`, the latest one last."""
    if not tasks or state.state in _SETTLED:
        return state
    if queue.problem:
        return _unheard(state, tasks[-1], queue.problem)
    task = next((task for task in reversed(tasks) if is_active(queue.rows.get(task))), tasks[-1])
    row = queue.rows.get(task)
    if state.state in LIVE_STATES:
        return _of_ended(state, row) if row and _ended_its_claim(state, row) else state
    return _of_row(state, row) if row else _of_absent(state, task)


def _of_row(state: RunState, row: TaskRow) -> RunState:
    if row.is_history and row.state in _MAY_RETURN | QUEUED | AT_WORK:
        reason = f"SLURM's history says {row.state} of {row.id}, its queue has it no more"
        return replace(state, state=State.UNKNOWN, reason=f"{reason}{_last(state)}")
    if row.state in QUEUED:
        return _pending(state, f"queued in SLURM as {row.id}{_why(row)}{_last(state)}")
    if row.state in AT_WORK:
        if state.state is State.FAILED and not row.restarts:
            return state
        where = f" on {row.nodes}" if row.nodes else ""
        return _pending(state, f"in SLURM task {row.id}, {row.state.lower()}{where}{_last(state)}")
    return _of_ended(state, row)


def _unheard(state: RunState, task: str, problem: str) -> RunState:
    """Where SLURM is silent: an unstarted run may be queued, run soon, or be cancelled."""
    if state.state is not State.PENDING:
        return state
    reason = f"sent to SLURM as {task}, which tells nothing now ({problem})"
    return replace(state, state=State.UNKNOWN, reason=reason)


def _ended_its_claim(state: RunState, row: TaskRow) -> bool:
    """Whether the live-looking claim is of a task that SLURM has seen the end of."""
    is_over = not is_active(row) and not (row.is_history and row.state in _MAY_RETURN)
    return is_over and bool(state.host) and _short(state.host) in _nodes(row.nodes)


def _of_absent(state: RunState, task: str) -> RunState:
    if state.state is State.FAILED:
        return state
    reason = f"its SLURM task {task} is in the queue no more and left no result: submit again"
    return replace(state, state=State.FAILED, reason=f"{reason}{_last(state)}")


def _of_ended(state: RunState, row: TaskRow) -> RunState:
    if row.state == "CANCELLED":
        reason = f"by scancel (SLURM task {row.id}); submit again to go on{_last(state)}"
        return replace(state, state=State.CANCELLED, cause=None, reason=reason)
    known = _ENDS.get(row.state)
    if known is None and state.state is State.FAILED:
        return state
    end = known or f"its task ended as {row.state} and left no result"
    reason = f"{end} (SLURM task {row.id}); submit again to go on{_last(state)}"
    return replace(state, state=State.FAILED, reason=reason)


def _pending(state: RunState, reason: str) -> RunState:
    return replace(state, state=State.PENDING, reason=reason)


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
    """Names in a node list that has no ranges; of `gpu[1-4]` nothing can be told."""
    return set() if "[" in text else {_short(name) for name in text.split(",")}
