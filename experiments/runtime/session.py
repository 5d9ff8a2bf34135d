"""One attempt at a run of any experiment: set-up, training, result."""

from __future__ import annotations

import os
import socket
from functools import partial

from experiments.runtime.declared import check_options_file
from experiments.runtime.distributed import (
    Ranks,
    barrier,
    gather_objects,
    process_group,
)
from experiments.runtime.entry import record_failure
from experiments.runtime.evaluation_run import evaluate_only
from experiments.runtime.events import EventLog
from experiments.runtime.experiment import Experiment
from experiments.runtime.learner import Learner
from experiments.runtime.loop import Trainer
from experiments.runtime.opening import open_run
from experiments.runtime.options import ExperimentOptions, build
from experiments.runtime.result import build_result
from experiments.runtime.run_context import RunContext
from experiments.runtime.samplers import divide_batch
from experiments.runtime.seeds import seed_everything
from experiments.runtime.setup import Setup
from experiments.runtime.stop import Stopped, StopRequest
from merge.storage.json_files import write_json


def train_experiment(experiment: Experiment, context: RunContext, stop: StopRequest) -> None:
    """Train the run that `context` describes; leave its result, or a checkpoint if stopped."""
    check_options_file(experiment)
    options: ExperimentOptions = build(experiment.options_type, context.config, experiment.name)
    with process_group(
        context.device_kind,
        timeout_s=options.runtime.collective_timeout_s,
        on_error=partial(record_failure, context),
    ) as ranks:
        stop.watch_peers(_local_peers(ranks))
        if context.checkpoint is not None or options.runtime.epochs == 0:
            evaluate_only(open_run(experiment, options, context, ranks), stop)
        else:
            divide_batch(options.runtime.global_batch, ranks.world_size)
            _train(_set_up(experiment, options, context, ranks, stop))
        # From here on ranks leave one by one, and none may take that for a failure.
        stop.watch_peers(())
        barrier(ranks)


def choose_micro_batch(options: ExperimentOptions, context: RunContext, ranks: Ranks) -> int:
    """Items that a rank computes at a time: the executor's value, else the configuration's."""
    share = divide_batch(options.runtime.global_batch, ranks.world_size)
    return min(context.micro_batch or options.runtime.micro_batch or share, share)


def _set_up(
    experiment: Experiment,
    options: ExperimentOptions,
    context: RunContext,
    ranks: Ranks,
    stop: StopRequest,
) -> Setup:
    run = open_run(experiment, options, context, ranks)
    # Dropout and the like differ between ranks.
    seed_everything(options.runtime.seed, "rank", ranks.rank)
    micro_batch = choose_micro_batch(options, context, ranks)
    stages, precision = run.stages, run.precision
    return Setup(
        context=context,
        task=run.task,
        declared=run.declared,
        ranks=ranks,
        precision=precision,
        stages=stages,
        learner=Learner(
            run.task, run.model, ranks, precision, stages.at(0), micro_batch=micro_batch
        ),
        micro_batch=micro_batch,
        stop=stop,
        events=EventLog(context.attempt.events if ranks.is_main else None),
    )


def _train(setup: Setup) -> None:
    trainer = Trainer(setup)
    try:
        progress = trainer.fit()
    except Stopped:
        return
    setup.learner.finish()
    result = build_result(progress, setup, trainer.report)
    report = setup.task.options.runtime.report
    reported = progress.reported(report)
    if report == "best":
        trainer.snapshots.load_best(reported)
    if setup.ranks.is_main:
        model = setup.learner.model.eval()
        with setup.precision.autocast():
            setup.task.finish(model, reported, setup.ranks.device)
        # Last: the executor takes a run with a result for done.
        write_json(setup.context.attempt.result, result)
    setup.events.emit("end", **reported.summary())


def _local_peers(ranks: Ranks) -> tuple[int, ...]:
    """Process ids of the other ranks on this machine."""
    own = (socket.gethostname(), os.getpid())
    everyone = gather_objects(own, ranks)
    return tuple(pid for host, pid in everyone if host == own[0] and pid != own[1])
