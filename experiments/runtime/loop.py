"""The training loop of one run, from its last checkpoint to its last epoch.

Every decision (stop, save, best epoch) is taken on values that all ranks share. On the CPU a run
that was killed or stopped anywhere continues to the same numbers, bit for bit, as one that was
not, as long as world size, threads and software stay the same.
"""

from __future__ import annotations

import logging
import time

import torch

from experiments.runtime.batches import Batch, shares
from experiments.runtime.distributed import all_reduce_sum, barrier
from experiments.runtime.evaluation_round import evaluate_lists
from experiments.runtime.guard import Guard
from experiments.runtime.image_sizes import check_image_size
from experiments.runtime.loaders import LoaderSettings
from experiments.runtime.meter import LossMeter
from experiments.runtime.progress import Evaluation, Progress
from experiments.runtime.reporting import Reporting
from experiments.runtime.samplers import TrainSampler
from experiments.runtime.setup import Setup
from experiments.runtime.snapshots import Snapshots
from experiments.runtime.stop import Stopped
from experiments.runtime.train_loader import TrainLoader

logger = logging.getLogger(__name__)

_STEP_EVENT_EVERY_S = 1.0


class Trainer:
    """Trains, evaluates and saves until the last epoch is done or all ranks agree to stop."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._options = setup.task.options.runtime
        self.progress = Progress()
        self.snapshots = Snapshots(
            setup.context, setup.task, setup.learner, setup.ranks, setup.stages
        )
        self._sampler = TrainSampler(
            setup.task.num_train_items(),
            global_batch=self._options.global_batch,
            rank=setup.ranks.rank,
            world_size=setup.ranks.world_size,
            seed=self._options.seed,
        )
        self._loader = TrainLoader(
            setup.task.train_data,
            setup.task.collate,
            self._sampler,
            (self._options.seed, setup.ranks.rank),
            LoaderSettings(
                num_workers=setup.context.num_workers,
                timeout_s=self._options.loader_timeout_s,
                pin_memory=setup.ranks.device.type == "cuda",
            ),
        )
        self._meter = LossMeter(setup.ranks.device)
        self._guard = Guard(setup.ranks)
        self.report = Reporting(setup, self._sampler.num_steps)
        self._mark = time.monotonic()
        self._reported_at = -_STEP_EVENT_EVERY_S

    @property
    def global_step(self) -> int:
        """Optimiser steps done since the run began."""
        return self.progress.epoch * self._sampler.num_steps + self.progress.step

    def fit(self) -> Progress:
        """Train to the end. Stopped: a checkpoint was written, and the run goes on from there."""
        self._restore()
        self.progress.begin(self._setup.ranks.world_size)
        self.report.begin(self.progress, self.global_step)
        try:
            self._evaluate_untrained()
            while self.progress.epoch < self._options.epochs:
                self._run_epoch()
        except Stopped:
            self._save()
            self._setup.events.emit("stopped", epoch=self.progress.epoch, step=self.progress.step)
            raise
        finally:
            self._loader.close()
            self.report.close()
        return self.progress

    def _restore(self) -> None:
        restored = self.snapshots.load(self._sampler.num_steps)
        if restored is not None:
            self.progress = restored.progress
            self._meter.reset(restored.loss_sum)

    def _evaluate_untrained(self) -> None:
        if self.progress.untrained is None:
            self.progress.untrained = self._evaluate(0)

    def _run_epoch(self) -> None:
        progress, options = self.progress, self._options
        before = progress.seconds["train"], progress.step
        self._train_steps()
        loss, trained = self._mean_loss(), self._train_metrics()
        seconds = progress.seconds["train"] - before[0]
        done = progress.epoch + 1
        evaluation = None
        if done % options.eval_every == 0 or done == options.epochs:
            evaluation = self._evaluate(done)
            if progress.record(evaluation, self._setup.task.selection):
                self.snapshots.keep_best(evaluation)
        summary = {} if evaluation is None else evaluation.summary()
        progress.history.append({"epoch": done, "loss": loss, **trained, **summary})
        items = (self._sampler.num_steps - before[1]) * options.global_batch
        self.report.epoch(progress.history[-1], self.global_step, items / max(seconds, 1e-9))
        progress.epoch, progress.step = done, 0
        self._meter.reset()
        self._setup.learner.counts.reset()
        # Before the checkpoint, so that its optimiser is the one of the epoch that comes next.
        self._begin_stage()
        self._save()
        self.report.write_files(progress)

    def _begin_stage(self) -> None:
        """Enter the stage of the present epoch, where it is another one than before."""
        setup, epoch = self._setup, self.progress.epoch
        stage = setup.stages.at(epoch)
        if stage is not setup.task.stage:
            setup.learner.begin_stage(stage)
            # Its processes know the stage before.
            self._loader.close()
            setup.events.emit("stage", stage=stage.name, epoch=epoch, epochs=stage.epochs)
            logger.info("stage %s: %d epochs", stage.name, stage.epochs)

    def _train_steps(self) -> None:
        """The steps of the present epoch that are not done yet."""
        self._sampler.set_epoch(self.progress.epoch, first_step=self.progress.step)
        task, epoch = self._setup.task, self.progress.epoch
        if len(self._sampler):
            self.report.begin_epoch(epoch)
        # No rank may read images of a new size while another is still in the old epoch.
        barrier(self._setup.ranks)
        is_first = True
        for batch in self._loader.batches(epoch):
            if is_first:
                check_image_size(task.images(batch), task.image_size(epoch), epoch)
                is_first = False
            self._step(batch, self._agree(batch))

    def _agree(self, batch: Batch) -> dict[str, float]:
        """This rank's share of what the loss counts, over the mean share; stop or save if due.

        One small all-reduce over gloo carries all of it, so that no GPU is waited for.
        """
        setup = self._setup
        own = setup.task.weights(batch)
        is_due = setup.ranks.is_main and self.snapshots.is_due()
        # Integers, so that every rank computes the same shares to the last bit.
        wishes = (self._guard.is_alarmed, setup.stop.is_requested, is_due)
        votes = torch.tensor([*own.values(), *wishes])
        *totals, num_alarmed, num_stop, num_due = all_reduce_sum(votes, setup.ranks).tolist()
        if num_alarmed:
            self._guard.check()
        if num_stop:
            raise Stopped
        if num_due:
            self._save()
        return shares(own, dict(zip(own, totals, strict=True)), parts=setup.ranks.world_size)

    def _step(self, batch: Batch, shares_of_rank: dict[str, float]) -> None:
        lr = self._setup.stages.rate(self.global_step, self._sampler.num_steps)
        learner = self._setup.learner
        loss = learner.step(batch, shares_of_rank=shares_of_rank, lr=lr)
        self.progress.step += 1
        self.snapshots.count_step()
        self._meter.add(loss)
        self._guard.note("loss", loss, self.global_step)
        if learner.gradient_norm is not None and not learner.may_skip_steps:
            self._guard.note("gradient", learner.gradient_norm, self.global_step)
        is_reported = time.monotonic() - self._reported_at >= _STEP_EVENT_EVERY_S
        # Reading a value waits for the GPU, so there it is done once in a while only.
        if is_reported or loss.device.type == "cpu":
            self._guard.look()
        if is_reported and not self._guard.is_alarmed:
            self._reported_at = time.monotonic()
            self.report.step(self.progress, self.global_step, float(loss), lr)

    def _check_model(self) -> None:
        """End all ranks where the model of any is destroyed."""
        learner = self._setup.learner
        if learner.is_overflowing:
            self._guard.note("gradient", torch.tensor(float("inf")), self.global_step)
        self._guard.check_model(learner.model, learner.trainable, self.global_step)

    def _mean_loss(self) -> float:
        """Mean loss of the epoch's steps, over all ranks."""
        self._check_model()
        self._tick("train")
        ranks = self._setup.ranks
        total = all_reduce_sum(torch.tensor(self._meter.sum, dtype=torch.float64), ranks)
        return float(total) / (ranks.world_size * self._sampler.num_steps)

    def _train_metrics(self) -> dict[str, float]:
        """The task's metrics of the epoch's training, over all ranks."""
        counts = self._setup.learner.counts.total(self._setup.ranks)
        metrics = self._setup.task.train_metrics(counts) if counts else {}
        return {f"train_{name}": float(value) for name, value in metrics.items()}

    def _evaluate(self, epoch: int) -> Evaluation:
        self._tick("train")
        evaluation = evaluate_lists(self._setup, epoch)
        self.report.evaluation(evaluation, self.global_step, self._tick("eval"))
        return evaluation

    def _save(self) -> None:
        """Write a checkpoint, unless nothing was trained yet.

        A checkpoint is good for the data and weights it was made with alone: after a run that
        failed before its first step they may still be corrected.
        """
        if not self.global_step:
            return
        self._check_model()
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
