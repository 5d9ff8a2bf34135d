"""One attempt at a run that evaluates without training: a checkpoint, or the model as it starts.

What is counted is saved after each list and at intervals inside of one, so that an attempt that
was killed goes on from there. Tallies are sums over items, so a list may be counted in parts, and
by another number of ranks in each part.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import torch

from experiments.runtime.checkpoint import load_checkpoint, save_checkpoint
from experiments.runtime.evaluate import Partial, Saving, evaluate
from experiments.runtime.events import EventLog
from experiments.runtime.opening import OpenRun
from experiments.runtime.progress import Evaluation
from experiments.runtime.result import evaluation_result
from experiments.runtime.stop import Stopped, StopRequest
from experiments.runtime.task import Sums
from experiments.runtime.tested_model import TestedModel, load_tested_model
from merge.errors import DataError
from merge.storage.json_files import write_json
from merge.storage.leftovers import remove_leftovers

logger = logging.getLogger(__name__)

_EVENT_EVERY_S = 1.0


def evaluate_only(run: OpenRun, stop: StopRequest) -> None:
    """Evaluate all lists and write the result; where a stop is asked for, what was counted."""
    tested = load_tested_model(run)
    run.task.stage = run.stages.at(max(0, tested.epoch - 1))
    run.model.to(run.ranks.device).eval()
    evaluation = _EvaluationRun(run, tested, stop)
    try:
        evaluation.finish(evaluation.measure())
    except Stopped:
        evaluation.events.emit("stopped", epoch=tested.epoch)


class _EvaluationRun:
    def __init__(self, run: OpenRun, tested: TestedModel, stop: StopRequest) -> None:
        self._run, self._tested, self._stop = run, tested, stop
        self._options = run.task.options.runtime
        self.events = EventLog(run.context.attempt.events if run.ranks.is_main else None)
        self._done: dict[str, Sums] = {}
        """Tallies of the lists that are at their end."""
        self._begun: dict[str, Partial] = {}
        """The list that is not."""
        self._seconds = 0.0
        """Of the attempts before this one."""
        self._since = self._saved_at = time.monotonic()
        self._reported_at = -_EVENT_EVERY_S

    def measure(self) -> Evaluation:
        """The evaluation of all lists. Stopped: what was counted is saved."""
        self._restore()
        task, run = self._run.task, self._run
        self.events.emit("start", epoch=self._tested.epoch, world_size=run.ranks.world_size)
        # The validation list chose the best epoch of the training: it is no part of a test.
        tested = [name for name in task.lists() if name != task.validation_list]
        for name in tested:
            if name not in self._done:
                self._done[name] = self._measure(name)
                self._begun = {}
                self._save()
        states = {name: self._done[name] for name in tested}
        metrics = run.declared.check(task.metrics(states), task.selection)
        return Evaluation(self._tested.epoch, metrics, states)

    def finish(self, evaluation: Evaluation) -> None:
        """Write the files of the run; the result comes last, as the executor looks for it."""
        run = self._run
        seconds = self._elapsed_s()
        self.events.emit("eval", **evaluation.summary(), seconds=round(seconds, 3))
        result = evaluation_result(evaluation, run, self._tested.record, seconds)
        logger.info("evaluated: %s", dict(evaluation.metrics))
        if run.ranks.is_main:
            with run.precision.autocast():
                run.task.finish(run.model, evaluation, run.ranks.device)
            write_json(run.context.attempt.result, result)
        self.events.emit("end", **evaluation.summary())

    def _measure(self, name: str) -> Sums:
        run = self._run

        def save(partial: Partial) -> None:
            self._begun = {name: partial}
            self._save()

        return evaluate(
            run.task,
            name,
            run.model,
            ranks=run.ranks,
            precision=run.precision,
            num_workers=run.context.num_workers,
            stop=self._stop,
            loader_timeout_s=self._options.loader_timeout_s,
            begun=self._begun.get(name),
            saving=Saving(is_due=self._is_due, save=save),
        )

    def _is_due(self, num_done: int) -> bool:
        now, every_s = time.monotonic(), self._options.checkpoint_every_s
        if now - self._reported_at >= _EVENT_EVERY_S:
            self._reported_at = now
            self.events.emit("step", epoch=self._tested.epoch, step=num_done)
        return self._run.ranks.is_main and bool(every_s) and now - self._saved_at >= every_s

    def _elapsed_s(self) -> float:
        return self._seconds + time.monotonic() - self._since

    def _save(self) -> None:
        """Replace last.pt by what was counted so far."""
        run = self._run
        if run.ranks.is_main:
            state = {
                "tested": self._identity(),
                "seconds": self._elapsed_s(),
                "done": {name: _tensor(sums) for name, sums in self._done.items()},
                "begun": {
                    name: {"num_chunks": partial.num_chunks, "sums": _tensor(partial.sums)}
                    for name, partial in self._begun.items()
                },
            }
            path = run.context.run.last_checkpoint
            save_checkpoint(path, state, config_hash=run.context.config_hash)
            self.events.emit("checkpoint", epoch=self._tested.epoch)
        self._saved_at = time.monotonic()

    def _restore(self) -> None:
        run, path = self._run, self._run.context.run.last_checkpoint
        if run.ranks.is_main:
            remove_leftovers([path.parent])
        state = load_checkpoint(path, run.ranks, config_hash=run.context.config_hash)
        if state is None:
            return
        self._refuse_foreign(state.get("tested"))
        self._seconds = state["seconds"]
        self._done = {name: sums.numpy() for name, sums in state["done"].items()}
        self._begun = {
            name: Partial(each["num_chunks"], each["sums"].numpy())
            for name, each in state["begun"].items()
        }

    def _identity(self) -> dict[str, Any]:
        """What must be the same in all attempts: the model, the data and the lists."""
        checkpoint = self._run.context.checkpoint
        model = {} if checkpoint is None else {"checkpoint": checkpoint.sha256}
        return {**self._run.task.identity(self._run.model), **model}

    def _refuse_foreign(self, known: object) -> None:
        theirs, ours = known if isinstance(known, Mapping) else {}, self._identity()
        for name in {**theirs, **ours}:
            if theirs.get(name) != ours.get(name):
                raise DataError(
                    f"this evaluation was begun with other {name} ({theirs.get(name)}) than are "
                    f"here now ({ours.get(name)}): restore those, or delete "
                    f"{self._run.context.run.checkpoints} to begin it again"
                )


def _tensor(sums: Sums) -> torch.Tensor:
    # A copy: the arrays of a tally may be views that a loader's memory backs.
    return torch.from_numpy(sums.copy())
