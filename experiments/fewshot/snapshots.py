"""The checkpoints of a few-shot run: last.pt to go on from, best.pt to use.

A frozen backbone is in neither; they name its weight file, and are refused with another one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from experiments.fewshot.config import FewShotConfig
from experiments.fewshot.learner import Learner, load_trained_state, trained_state
from experiments.fewshot.models.base import FewShotModel
from experiments.fewshot.progress import Evaluation, Progress
from experiments.fewshot.task import Task
from experiments.runtime.checkpoint import (
    load_checkpoint,
    random_state,
    restore_random_state,
    save_checkpoint,
)
from experiments.runtime.distributed import Ranks, gather_objects
from experiments.runtime.options import options_of
from experiments.runtime.run_context import RunContext
from experiments.runtime.seeds import seed_everything
from merge.errors import UsageError
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
        config: FewShotConfig,
        task: Task,
        learner: Learner,
        ranks: Ranks,
    ) -> None:
        self._context = context
        self._config = config
        self._learner = learner
        self._ranks = ranks
        self._identity = {
            "weights": learner.model.backbone.weights_id,
            "data": task.source.fingerprint(),
            "image lists": f"{task.train_split.pair_list_hash} {task.test_split.pair_list_hash}",
        }
        self._saved_at = time.monotonic()
        self._steps_since = 0

    def count_step(self) -> None:
        self._steps_since += 1

    def is_due(self) -> bool:
        """Whether a checkpoint inside an epoch should be written; ask on rank 0."""
        every_steps, every_s = self._config.checkpoint_every_steps, self._config.checkpoint_every_s
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
                "ranks": all_own,
                "world_size": self._ranks.world_size,
                "identity": self._identity,
            }
            path = self._context.run.last_checkpoint
            save_checkpoint(path, state, config_hash=self._context.config_hash)
        self._saved_at = time.monotonic()
        self._steps_since = 0

    def save_best(self, evaluation: Evaluation) -> None:
        """Replace best.pt by the model that `evaluation` measured."""
        if self._ranks.is_main:
            state = {
                "model": trained_state(self._learner.model),
                "evaluation": evaluation.to_state(),
                "identity": self._identity,
                "config": options_of(self._config),
            }
            path = self._context.run.best_checkpoint
            save_checkpoint(path, state, config_hash=self._context.config_hash)

    def load(self, steps_per_epoch: int) -> Restored | None:
        """Put model, optimiser and random generators back; None where nothing was saved yet.

        With another world size training goes on at the same step of the same order of episodes,
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
        self._learner.load_state_dict(state)
        progress = Progress.from_state(state["progress"])
        if state["world_size"] == self._ranks.world_size:
            own = state["ranks"][self._ranks.rank]
            restore_random_state(own["random"], self._ranks.device)
            return Restored(progress, own["loss_sum"])
        step = progress.epoch * steps_per_epoch + progress.step
        seed_everything(self._config.seed, "rank", self._ranks.rank, step)
        mean = sum(own["loss_sum"] for own in state["ranks"]) / state["world_size"]
        return Restored(progress, mean)

    def load_best(self, model: FewShotModel) -> Evaluation:
        """Put the best epoch's weights into `model`; what was measured with them."""
        path = self._context.run.best_checkpoint
        state = load_checkpoint(path, self._ranks, config_hash=self._context.config_hash)
        if state is None:
            raise UsageError(f"{path} is gone: delete last.pt beside it to train this run again")
        self._refuse_foreign(state)
        load_trained_state(model, state["model"])
        return Evaluation.from_state(state["evaluation"])

    def _refuse_foreign(self, state: dict[str, Any]) -> None:
        for name, ours in self._identity.items():
            theirs = state["identity"][name]
            if theirs != ours:
                raise UsageError(
                    f"the checkpoints in {self._context.run.checkpoints} were made with other "
                    f"{name} ({theirs}) than are here now ({ours}): restore those, or use another "
                    "output folder"
                )
