"""Why an attempt crashed without a final record, as the next attempt can find out. Pure.

Its own record stays unchanged: the finding is part of the record of the attempt that follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from merge.records.records import AttemptRecord, Cause, Owner

_TASK = ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
_RESTARTS = "SLURM_RESTART_COUNT"


def describe_predecessor(
    attempts: Sequence[AttemptRecord], owner: Owner, environment: Mapping[str, Any]
) -> dict[str, Any]:
    """Of the last of `attempts`, if it has no outcome: {"attempt", "cause", "reason"}; else empty.

    `owner` and `environment` are those of the attempt that follows.
    """
    if not attempts or attempts[-1].outcome is not None:
        return {}
    lost = attempts[-1]
    cause, reason = _why(lost, owner, environment)
    return {"attempt": lost.number, "cause": cause.value, "reason": reason}


def _why(lost: AttemptRecord, owner: Owner, environment: Mapping[str, Any]) -> tuple[Cause, str]:
    if _was_started_again(lost.environment.get("job", {}), environment.get("job", {})):
        return Cause.NODE_FAILURE, (
            f"SLURM started its task again, which was on {lost.owner.host}: the node failed, or "
            f"the task was killed before its checkpoint was written"
        )
    if lost.owner.host == owner.host and _boot(lost.owner) != _boot(owner):
        return Cause.NODE_FAILURE, f"{owner.host} was rebooted meanwhile"
    return Cause.LOST, f"its executor (process {lost.owner.pid} on {lost.owner.host}) died"


def _was_started_again(then: Mapping[str, str], now: Mapping[str, str]) -> bool:
    names = _TASK if _TASK[0] in now else ("SLURM_JOB_ID",)
    is_same = all(name in now and then.get(name) == now[name] for name in names)
    return is_same and int(now.get(_RESTARTS, 0)) > int(then.get(_RESTARTS, 0))


def _boot(owner: Owner) -> str:
    """The boot id without the pid namespace, in which containers of one machine differ."""
    return owner.boot_id.partition("/")[0]
