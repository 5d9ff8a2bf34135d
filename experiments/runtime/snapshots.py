"""The checkpoints of a run: last.pt to go on from, best.pt to use.

What a weight file decides alone is in neither; they name it, and are refused with another one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.runtime.checkpoint import (
    load_checkpoint,
    random_state,
    read_checkpoint,
    restore_random_state,
    save_checkpoint,
)
from experiments.runtime.distributed import Ranks, gather_objects
from experiments.runtime.learner import Learner, load_trained_state
from experiments.runtime.options import flat
from experiments.runtime.progress import Evaluation, Progress
from experiments.runtime.run_context import RunContext
from experiments.runtime.seeds import seed_everything
from experiments.runtime.stages import Timetable
from experiments.runtime.task import Task
from merge.errors import PapergridError, UsageError
from merge.storage.leftovers import remove_leftovers


@dataclass(frozen=True, slots=True)
class Restored:
    """Where training goes on."""

    progress: Progress
    loss_sum: float
    """This rank's sum of losses in the epoch that is going on."""


class Snapshots:
    """Saves and loads the checkpoints of one run; rank 0 writes them."""

    def __init__(
        self,
        context: RunContext,
        task: Task,
        learner: Learner,
        ranks: Ranks,
        stages: Timetable,
    ) -> None:
        self._context = context
        self._task = task
        self._options = task.options.runtime
        self._learner = learner
        self._ranks = ranks
        self._stages = stages
        self._identity = task.identity(learner.model)
        self._saved_at = time.monotonic()
        self._steps_since = 0

    def count_step(self) -> None:
        """Take note of one optimiser step."""
        self._steps_since += 1

    def is_due(self) -> bool:
        """Whether a checkpoint inside an epoch should be written; ask on rank 0."""
        every_steps, every_s = (
            self._options.checkpoint_every_steps,
            self._options.checkpoint_every_s,
        )
        if every_steps and self._steps_since >= every_steps:
            return True
        return bool(every_s) and time.monotonic() - self._saved_at >= every_s

    def save(self, progress: Progress, loss_sum: float) -> None:
        """Replace last.pt. All ranks call it: it holds the random states of each."""
        own = {"random": random_state(self._ranks.device), "loss_sum": loss_sum}
        all_own = gather_objects(own, self._ranks)
        if self._ranks.is_main:
            state = {
                **self._learner.state_dict(),
                "progress": progress.to_state(),
                "stage": self._task.stage.name,
                "ranks": all_own,
                "world_size": self._ranks.world_size,
                "identity": self._identity,
            }
            path = self._context.run.last_checkpoint
            save_checkpoint(path, state, config_hash=self._context.config_hash)
        self._saved_at = time.monotonic()
        self._steps_since = 0

    def save_best(self, evaluation: Evaluation) -> None:
        """Replace best.pt by the model that `evaluation` measured; after `save`, never before.

        A run that is killed between the two then has that model in last.pt, and `load` writes
        best.pt again. The other way round best.pt would be of an epoch that a resumed run has not
        reached, and on a GPU need not reach with the same numbers.
        """
        if self._ranks.is_main:
            state = {
                "model": self._learner.trained_state(),
                "evaluation": evaluation.to_state(),
                "identity": self._identity,
                "config": flat(self._task.options),  # type: ignore[arg-type]
            }
            path = self._context.run.best_checkpoint
            save_checkpoint(path, state, config_hash=self._context.config_hash)

    def load(self, steps_per_epoch: int) -> Restored | None:
        """Put model, optimiser and random generators back; None where nothing was saved yet.

        With another world size training goes on at the same step of the same order of items,
        with fresh streams for what ranks draw by themselves: no longer bit for bit the same.
        RecordError: the file is damaged. UsageError: another configuration, weights or data.
        """
        path = self._context.run.last_checkpoint
        if self._ranks.is_main:
            remove_leftovers([path.parent])
        state = load_checkpoint(path, self._ranks, config_hash=self._context.config_hash)
        if state is None:
            return None
        self._refuse_foreign(state)
        progress = Progress.from_state(state["progress"])
        self._begin_stage(state, progress)
        self._learner.load_state_dict(state)
        self._complete_best(progress)
        return Restored(progress, self._restore_rank(state, progress, steps_per_epoch))

    def load_best(self, expected: Evaluation) -> None:
        """Put the model that `expected` measured back.

        UsageError: the file is gone, or is of another epoch than the result reports.
        """
        path = self._context.run.best_checkpoint
        state = load_checkpoint(path, self._ranks, config_hash=self._context.config_hash)
        if state is None:
            raise UsageError(f"{path} is gone: delete last.pt beside it to train this run again")
        self._refuse_foreign(state)
        epoch = state["evaluation"]["epoch"]
        if epoch != expected.epoch:
            raise UsageError(
                f"{path} is of epoch {epoch}, but the best epoch of this run is {expected.epoch}: "
                "delete both checkpoints to train this run again"
            )
        load_trained_state(self._task, self._learner.model, state["model"])

    def _begin_stage(self, state: Mapping[str, Any], progress: Progress) -> None:
        """Enter the stage in which training goes on: the optimiser's state is that stage's."""
        stage = self._stages.at(progress.epoch)
        # Checkpoints from before there were stages do not name one: theirs is the only one.
        saved = state.get("stage", stage.name)
        if saved != stage.name:
            raise UsageError(
                f"{self._context.run.last_checkpoint} is of stage {saved!r}, but epoch "
                f"{progress.epoch} belongs to stage {stage.name!r} now: the experiment's stages "
                "have changed; use another output folder, or delete the file to start this run "
                "from the beginning"
            )
        if stage is not self._task.stage:
            self._learner.begin_stage(stage)

    def _complete_best(self, progress: Progress) -> None:
        """Write best.pt where a kill came between last.pt and it."""
        best = progress.best
        # Only at the end of the best epoch itself is the model of last.pt the one it measured.
        if best is None or (best.epoch, 0) != (progress.epoch, progress.step):
            return
        if self._ranks.is_main and self._best_epoch() != best.epoch:
            self.save_best(best)

    def _best_epoch(self) -> int | None:
        """The epoch of best.pt; None where the file is missing or cannot be used."""
        try:
            state = read_checkpoint(
                self._context.run.best_checkpoint, config_hash=self._context.config_hash
            )
        except PapergridError:
            return None
        return None if state is None else int(state["evaluation"]["epoch"])

    def _restore_rank(
        self, state: Mapping[str, Any], progress: Progress, steps_per_epoch: int
    ) -> float:
        """Put this rank's random generators back; its sum of losses in the present epoch."""
        if state["world_size"] == self._ranks.world_size:
            own = state["ranks"][self._ranks.rank]
            restore_random_state(own["random"], self._ranks.device)
            loss_sum: float = own["loss_sum"]
            return loss_sum
        step = progress.epoch * steps_per_epoch + progress.step
        seed_everything(self._options.seed, "rank", self._ranks.rank, step)
        total: float = sum(own["loss_sum"] for own in state["ranks"])
        return total / float(state["world_size"])

    def _refuse_foreign(self, state: Mapping[str, Any]) -> None:
        known = state["identity"]
        for name in {**known, **self._identity}:
            theirs, ours = (each.get(name, "not recorded") for each in (known, self._identity))
            if theirs != ours:
                raise UsageError(
                    f"the checkpoints in {self._context.run.checkpoints} were made with other "
                    f"{name} ({theirs}) than are here now ({ours}): restore those, or use another "
                    "output folder"
                )
