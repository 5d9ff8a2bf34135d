"""The training loop of one few-shot run, from whatever its last checkpoint says to its last epoch.

Every decision (stop, save, best epoch) is taken on values that all ranks share. On the CPU a run
that was killed or stopped anywhere continues to the same numbers, bit for bit, as one that was
not, as long as world size, threads and software stay the same.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import torch

from experiments.fewshot.config import FewShotConfig
from experiments.fewshot.evaluate import evaluate
from experiments.fewshot.feature_cache import FeatureCache
from experiments.fewshot.learner import Learner, poly_lr
from experiments.fewshot.loading import TrainBatch, train_loader
from experiments.fewshot.models.losses import IGNORED
from experiments.fewshot.progress import Evaluation, Progress
from experiments.fewshot.snapshots import Snapshots
from experiments.fewshot.task import Task
from experiments.runtime.distributed import Ranks, all_reduce_sum
from experiments.runtime.events import EventLog, ScalarLog
from experiments.runtime.meter import LossMeter
from experiments.runtime.precision import Precision
from experiments.runtime.run_context import RunContext
from experiments.runtime.samplers import TrainSampler
from experiments.runtime.stop import Stopped, StopRequest

logger = logging.getLogger(__name__)

_STEP_EVENT_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a training works with."""

    context: RunContext
    config: FewShotConfig
    task: Task
    ranks: Ranks
    precision: Precision
    learner: Learner
    stop: StopRequest
    events: EventLog


class Trainer:
    """Trains, evaluates and saves until the last epoch is done or all ranks agree to stop."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        config, ranks = setup.config, setup.ranks
        self.progress = Progress()
        self.features = FeatureCache(config.feature_cache_mb)
        self.snapshots = Snapshots(setup.context, config, setup.task, setup.learner, ranks)
        self._sampler = TrainSampler(
            setup.task.episodes_per_epoch,
            global_batch=config.global_batch,
            rank=ranks.rank,
            world_size=ranks.world_size,
            seed=config.seed,
        )
        self._meter = LossMeter(ranks.device)
        self._scalars = ScalarLog(None, first_step=0)
        self._mark = time.monotonic()
        self._told_at = -_STEP_EVENT_EVERY_S

    @property
    def global_step(self) -> int:
        """Optimiser steps done since the run began."""
        return self.progress.epoch * self._sampler.num_steps + self.progress.step

    def fit(self) -> Progress:
        """Train to the end. Stopped: a checkpoint was written, and the run goes on from there."""
        self._restore()
        self._begin()
        try:
            self._evaluate_untrained()
            while self.progress.epoch < self._setup.config.epochs:
                self._run_epoch()
        except Stopped:
            self._save()
            self._setup.events.emit("stopped", epoch=self.progress.epoch, step=self.progress.step)
            raise
        finally:
            self._scalars.close()
        return self.progress

    def _restore(self) -> None:
        restored = self.snapshots.load(self._sampler.num_steps)
        if restored is not None:
            self.progress = restored.progress
            self._meter.reset(restored.loss_sum)

    def _begin(self) -> None:
        setup = self._setup
        if setup.config.tensorboard and setup.ranks.is_main:
            folder = setup.context.tensorboard
            self._scalars = ScalarLog(folder, first_step=self.global_step + 1)
        setup.events.emit(
            "start",
            epoch=self.progress.epoch,
            step=self.progress.step,
            epochs=setup.config.epochs,
            steps_per_epoch=self._sampler.num_steps,
            global_batch=setup.config.global_batch,
            world_size=setup.ranks.world_size,
        )
        logger.info("%s: epoch %d", setup.context.run_id, self.progress.epoch)

    def _evaluate_untrained(self) -> None:
        if self.progress.untrained is None:
            self.progress.untrained = self._evaluate(0)
            self._save()

    def _run_epoch(self) -> None:
        config, progress = self._setup.config, self.progress
        self._train_steps()
        loss = self._mean_loss()
        done = progress.epoch + 1
        evaluation, is_best = None, False
        if done % config.eval_every == 0 or done == config.epochs:
            evaluation = self._evaluate(done)
            is_best = progress.record(evaluation)
        summary = {} if evaluation is None else evaluation.summary()
        progress.history.append({"epoch": done, "loss": loss, **summary})
        self._setup.events.emit("epoch", epoch=done, loss=loss)
        self._scalars.add("train/loss", loss, self.global_step)
        logger.info("epoch %d/%d loss %.4f", done, config.epochs, loss)
        progress.epoch, progress.step = done, 0
        self._meter.reset()
        if is_best and evaluation is not None:
            self.snapshots.save_best(evaluation)
        self._save()

    def _train_steps(self) -> None:
        """The steps of the present epoch that are not done yet."""
        setup = self._setup
        fill_rgb = setup.learner.model.mean_rgb
        self._sampler.set_epoch(self.progress.epoch, first_step=self.progress.step)
        dataset = setup.task.train_dataset(self.progress.epoch, fill_rgb)
        pin_memory = setup.ranks.device.type == "cuda"
        num_workers = setup.context.num_workers
        for batch in train_loader(dataset, self._sampler, num_workers, pin_memory=pin_memory):
            pixel_share = self._agree(batch)
            self._step(batch, pixel_share)

    def _agree(self, batch: TrainBatch) -> float:
        """This rank's share of the pixels that count, over the mean share; stop or save if due.

        One small all-reduce over gloo carries all three, so that no GPU is waited for.
        """
        setup = self._setup
        num_pixels = int((batch.target != IGNORED).sum())
        is_due = setup.ranks.is_main and self.snapshots.is_due()
        votes = torch.tensor([num_pixels, setup.stop.is_requested, is_due])
        total, num_stop, num_due = all_reduce_sum(votes, setup.ranks).tolist()
        if num_stop:
            raise Stopped
        if num_due:
            self._save()
        return num_pixels * setup.ranks.world_size / total if total else 1.0

    def _step(self, batch: TrainBatch, pixel_share: float) -> None:
        config = self._setup.config
        num_steps = config.epochs * self._sampler.num_steps
        lr = poly_lr(config, self.global_step, num_steps)
        loss = self._setup.learner.step(batch, pixel_share=pixel_share, lr=lr)
        self.progress.step += 1
        self.snapshots.count_step()
        self._meter.add(loss, self.global_step)
        is_told = time.monotonic() - self._told_at >= _STEP_EVENT_EVERY_S
        # Reading a value waits for the GPU, so there it is done once in a while only.
        if is_told or loss.device.type == "cpu":
            self._meter.check()
        if is_told:
            self._told_at = time.monotonic()
            self._tell_step(float(loss), lr)

    def _tell_step(self, loss: float, lr: float) -> None:
        """Tell rank 0's part of the loss."""
        progress = self.progress
        self._setup.events.emit("step", epoch=progress.epoch, step=progress.step, loss=loss, lr=lr)
        self._scalars.add("train/step_loss", loss, self.global_step)
        self._scalars.add("train/learning_rate", lr, self.global_step)

    def _mean_loss(self) -> float:
        """Mean loss of the epoch's steps, over all ranks."""
        self._meter.check()
        self._tick("train")
        ranks = self._setup.ranks
        total = all_reduce_sum(torch.tensor(self._meter.sum, dtype=torch.float64), ranks)
        return float(total) / (ranks.world_size * self._sampler.num_steps)

    def _evaluate(self, epoch: int) -> Evaluation:
        setup = self._setup
        self._tick("train")
        setup.learner.share_statistics()
        episodes = tuple(
            evaluate(
                setup.learner.model,
                dataset,
                setup.task.test_split.class_ids,
                ranks=setup.ranks,
                precision=setup.precision,
                num_workers=setup.context.num_workers,
                stop=setup.stop,
                cache=self.features,
            )
            for dataset in setup.task.test_datasets(setup.learner.model.mean_rgb)
        )
        seconds = self._tick("eval")
        counts = tuple(each.total() for each in episodes)
        # What an untrained model scores is no result: its episodes need not travel.
        evaluation = Evaluation(epoch, counts, episodes if epoch else ())
        summary = evaluation.summary()
        setup.events.emit("eval", **summary, seconds=seconds)
        self._scalars.add("test/miou", evaluation.miou, self.global_step)
        self._scalars.add("test/fb_iou", evaluation.fb_iou, self.global_step)
        logger.info("epoch %d miou %.4f fb_iou %.4f", epoch, evaluation.miou, evaluation.fb_iou)
        return evaluation

    def _save(self) -> None:
        self._meter.check()
        self._tick("train")
        self.snapshots.save(self.progress, self._meter.sum)
        self._setup.events.emit("checkpoint", epoch=self.progress.epoch, step=self.progress.step)

    def _tick(self, kind: str) -> float:
        """Add the time since the last tick to `kind`; that time in seconds."""
        now = time.monotonic()
        seconds = now - self._mark
        self._mark = now
        self.progress.seconds[kind] += seconds
        return seconds
