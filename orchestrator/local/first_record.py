"""What an attempt records of itself before its process is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from merge.records.records import AttemptRecord
from merge.records.sweep import Run
from orchestrator.machine.launch import Assignment, Launch
from orchestrator.machine.trainer_python import describe_trainer_python
from orchestrator.runs.code_history import earlier_code, first_trained, recorded_attempts
from orchestrator.runs.lost_attempts import describe_predecessor
from orchestrator.runs.requests import all_attempts
from orchestrator.runs.retries import MemorySettings

if TYPE_CHECKING:
    from orchestrator.local.attempt import ExecutorContext


def first_record(
    context: ExecutorContext,
    run: Run,
    assignment: Assignment,
    launch: Launch,
    memory: MemorySettings,
    changes: Mapping[str, Any],
) -> AttemptRecord:
    """The record of an attempt that begins now; `changes` are its own deviations."""
    assert assignment.number is not None  # an executor numbers its attempts
    paths = context.output.run(run.path)
    owner = context.settings.owner
    past, local = recorded_attempts(paths), all_attempts(paths)
    code = context.settings.code_now() or context.sweep.code
    since = first_trained(run, paths, past, assignment.number)
    return AttemptRecord(
        number=assignment.number,
        token=assignment.token,
        owner=owner,
        command=launch.argv,
        device=assignment.kind,
        devices=assignment.devices,
        started=context.clock.now(),
        code=code,
        micro_batch=memory.micro_batch,
        num_workers=memory.num_workers,
        deviations=changes or _inherited_deviations(local),
        environment=_environment(context, run, launch),
        trained_since=since,
        earlier_code=earlier_code(past, since, code),
        took_over=describe_predecessor(local, owner, context.environment),
    )


def _environment(context: ExecutorContext, run: Run, launch: Launch) -> Mapping[str, Any]:
    if run.command is None:
        return context.environment
    trainer = describe_trainer_python(launch, context.known_pythons)
    return {**context.environment, **trainer}


def _inherited_deviations(past: Sequence[AttemptRecord]) -> Mapping[str, Any]:
    """Those of the newest attempt that had any: this attempt continues from its checkpoint."""
    return next((each.deviations for each in reversed(past) if each.deviations), {})
