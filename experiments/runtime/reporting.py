"""What a training shows while it goes on: events, TensorBoard, console, and files for people."""

from __future__ import annotations

import logging
import math
from typing import Any

from experiments.runtime.events import ScalarLog
from experiments.runtime.model_info import MacCounter, describe_model
from experiments.runtime.progress import Evaluation, Progress
from experiments.runtime.setup import Setup
from experiments.runtime.training_files import TrainingFiles, epoch_lines, rate_line

logger = logging.getLogger(__name__)


class Reporting:
    """Reports of one attempt; of ranks other than 0 nothing is written."""

    def __init__(self, setup: Setup, steps_per_epoch: int) -> None:
        self._setup, self._steps_per_epoch = setup, steps_per_epoch
        self._epochs = setup.task.options.runtime.epochs
        self._scalars = ScalarLog(None, first_step=0)
        paths = setup.context.run if setup.ranks.is_main else None
        self._files = TrainingFiles(paths, epochs=self._epochs, rate=self.rate_of_epoch)
        self.model = describe_model(setup.learner.model, setup.learner.trainable)
        self._macs: MacCounter | None = None

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self._epochs * self._steps_per_epoch

    def rate_of_epoch(self, epoch: int) -> float:
        """The learning rate of the first step of `epoch`, counted from 0."""
        return self._setup.stages.rate(epoch * self._steps_per_epoch, self._steps_per_epoch)

    def begin(self, progress: Progress, global_step: int) -> None:
        """The attempt begins, at `global_step` optimiser steps of the run."""
        setup, options = self._setup, self._setup.task.options.runtime
        if options.tensorboard and setup.ranks.is_main:
            self._scalars = ScalarLog(setup.context.tensorboard, first_step=global_step + 1)
        setup.events.emit(
            "start",
            epoch=progress.epoch,
            step=progress.step,
            stage=setup.task.stage.name,
            epochs=self._epochs,
            steps_per_epoch=self._steps_per_epoch,
            global_batch=options.global_batch,
            world_size=setup.ranks.world_size,
        )
        self._files.write_model(self.model)
        # An attempt that was killed after its checkpoint may have left them an epoch behind.
        if progress.history:
            self._files.write(progress)
        logger.info("%s: epoch %d", setup.context.run_id, progress.epoch)

    def begin_epoch(self, epoch: int) -> None:
        """The steps of `epoch`, counted from 0, begin or go on."""
        logger.info("%s", rate_line(epoch + 1, self._epochs, self.rate_of_epoch(epoch)))
        if self._macs is None:
            self._macs = MacCounter(self._setup.learner.model)

    def step(self, progress: Progress, global_step: int, loss: float, lr: float) -> None:
        """Rank 0's part of the loss of the last step."""
        norm = self._setup.learner.gradient_norm
        values = {"loss": loss, "lr": lr}
        # With fp16 it is infinite in a step that the scaler leaves out.
        if norm is not None and math.isfinite(found := float(norm)):
            values["grad_norm"] = found
            self._scalars.add("train/grad_norm", found, global_step)
        self._setup.events.emit("step", epoch=progress.epoch, step=progress.step, **values)
        self._scalars.add("train/step_loss", loss, global_step)
        self._scalars.add("train/learning_rate", lr, global_step)

    def evaluation(self, evaluation: Evaluation, global_step: int, seconds: float) -> None:
        """An evaluation is done."""
        self._setup.events.emit("eval", **evaluation.summary(), seconds=seconds)
        for name, value in evaluation.metrics.items():
            self._scalars.add(f"test/{name}", value, global_step)
        for name, value in evaluation.validation.items():
            self._scalars.add(f"validation/{name}", value, global_step)
        values = {name: value for name, value in evaluation.summary().items() if name != "epoch"}
        shown = " ".join(f"{name} {value:.4f}" for name, value in values.items())
        logger.info("epoch %d %s", evaluation.epoch, shown)

    def epoch(self, entry: dict[str, Any], global_step: int, items_per_s: float) -> None:
        """An epoch is done: its entry of the history, and how fast it trained."""
        self._setup.events.emit(
            "epoch",
            epoch=entry["epoch"],
            loss=entry["loss"],
            items_per_s=round(items_per_s, 3),
        )
        train = {name: value for name, value in entry.items() if name.startswith("train_")}
        for name, value in {"loss": entry["loss"], **train}.items():
            self._scalars.add(f"train/{name.removeprefix('train_')}", value, global_step)
        logger.info("%s", epoch_lines(entry)[0])

    def write_files(self, progress: Progress) -> None:
        """Replace the files about the training, once `progress` is that of a whole epoch."""
        if self._macs is not None and self.model.macs_per_item is None and self._macs.macs:
            self.model.macs_per_item = round(self._macs.macs / self._setup.micro_batch)
            self._files.write_model(self.model)
        self._files.write(progress)

    def close(self) -> None:
        """The attempt ends."""
        self._scalars.close()
