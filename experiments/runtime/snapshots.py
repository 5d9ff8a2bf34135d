"""The checkpoints of a run: last.pt to go on from, best.pt to use.

What a weight file decides alone is in neither; they name it, and are refused with another one.
last.pt is the record that decides: it carries the best model, and best.pt is made from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.runtime.best_model import BestModel
from experiments.runtime.checkpoint import (
    load_checkpoint,
    random_state,
    read_checkpoint,
    restore_random_state,
    save_checkpoint,
)
from experiments.runtime.distributed import Ranks, broadcast_object, gather_objects
from experiments.runtime.learner import Learner, load_trained_state
from experiments.runtime.options import flat
from experiments.runtime.progress import Evaluation, Progress
from experiments.runtime.run_context import RunContext
from experiments.runtime.seeds import seed_everything
from experiments.runtime.stages import Timetable
from experiments.runtime.task import Task
from merge.errors import DataError, PapergridError, UsageError
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
        self._best: BestModel | None = None
        """On rank 0; None on the others."""
        self._digest_on_disk: str | None = None
        """Of best.pt; None where it is not known."""

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

    def keep_best(self, evaluation: Evaluation) -> None:
        """Take the present model, which `evaluation` measured, as the best; `save` writes it."""
        if self._ranks.is_main:
            self._best = BestModel.of(evaluation, self._learner.tested_state())

    def save(self, progress: Progress, loss_sum: float) -> None:
        """Replace last.pt, then best.pt where it is of another model.

        All ranks call it: last.pt holds the random states of each.
        """
        own = {
            "random": random_state(self._ranks.device),
            "loss_sum": loss_sum,
            "counts": self._learner.counts.state(),
        }
        all_own = gather_objects(own, self._ranks)
        if self._ranks.is_main:
            state = {
                **self._model_state(progress),
                "progress": progress.to_state(),
                "stage": self._task.stage.name,
                "ranks": all_own,
                "world_size": self._ranks.world_size,
                "identity": self._identity,
                "config": flat(self._task.options),  # type: ignore[arg-type]
            }
            path = self._context.run.last_checkpoint
            save_checkpoint(path, state, config_hash=self._context.config_hash)
            self._complete_best()
        self._saved_at = time.monotonic()
        self._steps_since = 0

    def _model_state(self, progress: Progress) -> dict[str, Any]:
        """The model under training with its optimiser, and the best one."""
        state = self._learner.state_dict()
        if self._best is None:
            return state
        # The same tensors twice: torch writes them once.
        if _is_present(self._best.evaluation, progress):
            state["average" if "average" in state else "model"] = dict(self._best.model)
        return {**state, "best": self._best.to_record()}

    def load(self, steps_per_epoch: int) -> Restored | None:
        """Put model, optimiser and random generators back; None where nothing was trained yet.

        With another world size training goes on at the same step of the same order of items,
        with fresh streams for what ranks draw by themselves: no longer bit for bit the same.
        RecordError: the file is damaged. UsageError: another configuration. DataError: other
        weights or data.
        """
        path = self._context.run.last_checkpoint
        if self._ranks.is_main:
            remove_leftovers([path.parent])
        state = load_checkpoint(path, self._ranks, config_hash=self._context.config_hash)
        # Earlier versions saved before the first step, which ties a run to data not trained on.
        if state is None or not (state["progress"]["epoch"] or state["progress"]["step"]):
            return None
        self._refuse_foreign(state)
        progress = Progress.from_state(state["progress"])
        self._begin_stage(state, progress)
        self._learner.load_state_dict(state)
        if self._ranks.is_main:
            self._best = self._find_best(state, progress)
            self._complete_best()
        return Restored(progress, self._restore_rank(state, progress, steps_per_epoch))

    def load_best(self, expected: Evaluation) -> None:
        """Put the model that `expected` measured back on all ranks; best.pt is of it then.

        UsageError: it is lost; only a checkpoint of an earlier version can have lost it.
        """
        own = None if self._best is None else dict(self._best.model)
        model = broadcast_object(own, self._ranks)
        if model is None:
            raise UsageError(
                f"the model of the best epoch ({expected.epoch}) is lost: "
                f"{self._context.run.best_checkpoint} is gone or of another epoch, and last.pt is "
                "of an earlier version, which did not hold it; delete both checkpoints to train "
                "this run again"
            )
        load_trained_state(self._task, self._learner.model, model)
        if self._ranks.is_main:
            # A late owner of this run, or a sync, may have replaced the file meanwhile.
            self._digest_on_disk = None
            self._complete_best()

    def _find_best(self, state: Mapping[str, Any], progress: Progress) -> BestModel | None:
        """The best model that last.pt carries; of an earlier version, where it is to be found."""
        if progress.best is None:
            return None
        if "best" in state:
            return BestModel(progress.best, state["best"]["model"], state["best"]["sha256"])
        if _is_present(progress.best, progress):
            return BestModel.of(progress.best, state["model"])
        found = self._read_best()
        return found if found is not None and found.measured(progress.best) else None

    def _complete_best(self) -> None:
        """Write best.pt where it is not of the best model."""
        best = self._best
        if best is None:
            return
        if self._digest_on_disk is None:
            found = self._read_best()
            self._digest_on_disk = found.digest if found else None
        if self._digest_on_disk != best.digest:
            state = {
                **best.to_state(),
                "identity": self._identity,
                "config": flat(self._task.options),  # type: ignore[arg-type]
            }
            path = self._context.run.best_checkpoint
            save_checkpoint(path, state, config_hash=self._context.config_hash)
            self._digest_on_disk = best.digest

    def _read_best(self) -> BestModel | None:
        """What best.pt holds; None where the file is missing or cannot be used."""
        path = self._context.run.best_checkpoint
        try:
            state = read_checkpoint(path, config_hash=self._context.config_hash)
            return None if state is None else BestModel.from_state(state)
        except (PapergridError, LookupError, TypeError, ValueError, AttributeError):
            return None

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

    def _restore_rank(
        self, state: Mapping[str, Any], progress: Progress, steps_per_epoch: int
    ) -> float:
        """Put this rank's random generators back; its sum of losses in the present epoch."""
        if state["world_size"] == self._ranks.world_size:
            own = state["ranks"][self._ranks.rank]
            restore_random_state(own["random"], self._ranks.device)
            self._learner.counts.reset(own.get("counts"))
            loss_sum: float = own["loss_sum"]
            return loss_sum
        step = progress.epoch * steps_per_epoch + progress.step
        seed_everything(self._options.seed, "rank", self._ranks.rank, step)
        for own in state["ranks"]:
            counts = own.get("counts", {})
            # Zeros on the others: where no step is left, the ranks add up what each has by name.
            share = int(self._ranks.is_main)
            self._learner.counts.add({name: count * share for name, count in counts.items()})
        total: float = sum(own["loss_sum"] for own in state["ranks"])
        return total / float(state["world_size"])

    def _refuse_foreign(self, state: Mapping[str, Any]) -> None:
        known = state["identity"]
        for name in {**known, **self._identity}:
            theirs, ours = (each.get(name, "not recorded") for each in (known, self._identity))
            if theirs != ours:
                raise DataError(
                    f"the checkpoints in {self._context.run.checkpoints} were made with other "
                    f"{name} ({theirs}) than are here now ({ours}): restore those, use another "
                    "output folder, or delete that folder of checkpoints to train this run from "
                    "the beginning"
                )


def _is_present(evaluation: Evaluation, progress: Progress) -> bool:
    """Whether the model under training is still the one that `evaluation` measured."""
    return (evaluation.epoch, 0) == (progress.epoch, progress.step)
