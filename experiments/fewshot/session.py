"""One attempt at a few-shot run: set-up, training, result and panels."""

from __future__ import annotations

import os
import socket
from functools import partial

import torch

from experiments.fewshot.config import FewShotConfig, read_config, resolve_amp
from experiments.fewshot.faster import make_faster
from experiments.fewshot.feature_cache import FeatureCache
from experiments.fewshot.learner import Learner
from experiments.fewshot.models.base import FewShotModel
from experiments.fewshot.models.registry import build_model
from experiments.fewshot.panels import write_panels
from experiments.fewshot.result import build_result, choose_reported, episode_record
from experiments.fewshot.showcase import show_episodes
from experiments.fewshot.task import open_task
from experiments.fewshot.trainer import Setup, Trainer
from experiments.runtime.distributed import (
    Ranks,
    barrier,
    gather_objects,
    process_group,
    use_reproducible_math,
)
from experiments.runtime.entry import record_failure
from experiments.runtime.environment import describe_environment
from experiments.runtime.events import EventLog
from experiments.runtime.precision import Precision
from experiments.runtime.run_context import RunContext
from experiments.runtime.samplers import divide_batch
from experiments.runtime.seeds import seed_everything
from experiments.runtime.stop import Stopped, StopRequest
from merge.storage.atomic import write_bytes
from merge.storage.json_files import compact_json, write_json


def train_fewshot(context: RunContext, stop: StopRequest) -> None:
    """Train the run that `context` describes; leave its result, or a checkpoint if stopped."""
    config = read_config(context.config)
    with process_group(
        context.device_kind,
        timeout_s=config.collective_timeout_s,
        on_error=partial(record_failure, context),
    ) as ranks:
        stop.watch_peers(_local_peers(ranks))
        divide_batch(config.global_batch, ranks.world_size)
        _train(_set_up(context, config, ranks, stop))
        # From here on ranks leave one by one, and none may take that for a failure.
        stop.watch_peers(())
        barrier(ranks)


def build_seeded_model(config: FewShotConfig, context: RunContext) -> FewShotModel:
    """The run's model before training: the same on every rank and for any number of ranks."""
    seed_everything(config.seed, "model")
    return build_model(
        config.method,
        config.backbone,
        weights=context.weights,
        from_scratch=config.from_scratch,
        output_stride=config.output_stride,
        stem=config.resnet_stem,
        options=config.method_options,
    )


def micro_batch(config: FewShotConfig, context: RunContext, ranks: Ranks) -> int:
    """Episodes that a rank computes at a time: what the executor says, else the configuration."""
    share = divide_batch(config.global_batch, ranks.world_size)
    return min(context.micro_batch or config.micro_batch or share, share)


def _set_up(context: RunContext, config: FewShotConfig, ranks: Ranks, stop: StopRequest) -> Setup:
    is_cuda = ranks.device.type == "cuda"
    has_bf16 = is_cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    precision = Precision(resolve_amp(config, context.device_kind, has_bf16=has_bf16), ranks.device)
    use_reproducible_math(ranks.device)
    task = open_task(config, context)
    model = build_seeded_model(config, context)
    make_faster(model, config, ranks.device)
    seed_everything(config.seed, "rank", ranks.rank)
    if ranks.is_main:
        write_json(context.attempt.environment, describe_environment(ranks))
    return Setup(
        context=context,
        config=config,
        task=task,
        ranks=ranks,
        precision=precision,
        learner=Learner(model, config, ranks, precision, micro_batch(config, context, ranks)),
        stop=stop,
        events=EventLog(context.attempt.events if ranks.is_main else None),
    )


def _train(setup: Setup) -> None:
    trainer = Trainer(setup)
    try:
        progress = trainer.fit()
    except Stopped:
        return
    model = setup.learner.model
    result = build_result(
        progress,
        setup.task,
        model,
        setup.ranks,
        setup.precision,
        micro_batch(setup.config, setup.context, setup.ranks),
    )
    if setup.config.report == "best":
        trainer.snapshots.load_best(model)
    if setup.ranks.is_main:
        _draw_panels(setup, trainer.features)
        write_bytes(
            setup.context.attempt.episode_counts,
            compact_json(episode_record(progress, setup.task)),
        )
        write_json(setup.context.attempt.result, result)
    setup.events.emit("end", **choose_reported(progress, setup.config).summary())


def _draw_panels(setup: Setup, features: FeatureCache) -> None:
    """Draw a few test episodes as the reported epoch's model segments them."""
    rows = show_episodes(
        setup.task, setup.learner.model, setup.ranks.device, setup.precision, features
    )
    if rows:
        write_panels(setup.context.panels / "test.png", rows)


def _local_peers(ranks: Ranks) -> tuple[int, ...]:
    """Process ids of the other ranks on this machine."""
    own = (socket.gethostname(), os.getpid())
    everyone = gather_objects(own, ranks)
    return tuple(pid for host, pid in everyone if host == own[0] and pid != own[1])
