"""What a training works with, made once at its start."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.runtime.declared import DeclaredMetrics
from experiments.runtime.distributed import Ranks
from experiments.runtime.events import EventLog
from experiments.runtime.learner import Learner
from experiments.runtime.precision import Precision
from experiments.runtime.run_context import RunContext
from experiments.runtime.stages import Timetable
from experiments.runtime.stop import StopRequest
from experiments.runtime.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a training works with."""

    context: RunContext
    task: Task
    declared: DeclaredMetrics
    ranks: Ranks
    precision: Precision
    stages: Timetable
    learner: Learner
    micro_batch: int
    """Items that a rank computes at a time."""
    stop: StopRequest
    events: EventLog
