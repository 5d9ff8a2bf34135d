"""What a training and an evaluation begin with: task, model, precision, declared metrics."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from experiments.runtime.declared import DeclaredMetrics, read_declared_metrics
from experiments.runtime.distributed import Ranks, use_reproducible_math
from experiments.runtime.environment import describe_environment
from experiments.runtime.experiment import Experiment
from experiments.runtime.options import ExperimentOptions
from experiments.runtime.precision import Precision, choose_precision, use_tf32
from experiments.runtime.run_context import RunContext
from experiments.runtime.seeds import seed_everything
from experiments.runtime.stages import Timetable
from experiments.runtime.task import Task
from merge.storage.json_files import write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRun:
    """A run's task with its model on this rank, before anything is trained or loaded."""

    context: RunContext
    ranks: Ranks
    task: Task
    model: nn.Module
    declared: DeclaredMetrics
    precision: Precision
    stages: Timetable


def open_run(
    experiment: Experiment, options: ExperimentOptions, context: RunContext, ranks: Ranks
) -> OpenRun:
    """Open the task and build its model; rank 0 writes the attempt's env.json."""
    precision = choose_precision(options.runtime.amp, ranks.device)
    use_reproducible_math(ranks.device, is_deterministic=options.runtime.deterministic)
    use_tf32(ranks.device, options.runtime.tf32)
    task = experiment.open_task(options, context)
    declared = read_declared_metrics(experiment, context.metric)
    declared.check_selection(getattr(task, "selection", None))
    stages = Timetable(task.stages(), epochs=options.runtime.epochs)
    model = build_seeded_model(task, ranks)
    if ranks.is_main:
        write_json(context.attempt.environment, describe_environment(ranks))
    return OpenRun(
        context=context,
        ranks=ranks,
        task=task,
        model=model,
        declared=declared,
        precision=precision,
        stages=stages,
    )


def build_seeded_model(task: Task, ranks: Ranks) -> nn.Module:
    """The run's model before training: the same on every rank and for any number of ranks."""
    seed_everything(task.options.runtime.seed, "model")
    return task.build_model(ranks.device)
