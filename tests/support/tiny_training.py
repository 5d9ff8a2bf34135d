"""A training of one number in this process, which takes milliseconds: real loop, real files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.runtime.declared import DeclaredMetrics
from experiments.runtime.distributed import Ranks
from experiments.runtime.events import EventLog
from experiments.runtime.learner import Learner
from experiments.runtime.loop import Trainer
from experiments.runtime.options import OptimiserOptions, RuntimeOptions
from experiments.runtime.precision import Precision
from experiments.runtime.run_context import RunContext
from experiments.runtime.setup import Setup
from experiments.runtime.stages import Timetable
from experiments.runtime.stop import StopRequest
from experiments.runtime.task import Selection, Tally, Task, Term
from merge.storage.paths import AttemptPaths, RunPaths

ALONE = Ranks(0, 0, 1, torch.device("cpu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyOptions:
    runtime: RuntimeOptions = RuntimeOptions(epochs=3, tensorboard=False)
    optimiser: OptimiserOptions = OptimiserOptions(lr=0.1)


class Items:
    """Each item is its index; `read` may fail as real data does."""

    def __init__(self, length: int, read: Callable[[int], Any] = float) -> None:
        self._length, self._read = length, read

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([self._read(index)])


class GivenScores(Tally[Any, Any]):
    def __init__(self, score: float) -> None:
        self._score = score

    def add(self, index: int, prediction: Any, item: Any) -> None:
        del index, prediction, item

    def state(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        return np.array([self._score])

    def metrics(self, state: Any) -> dict[str, float]:
        return {"score": float(state[0])}


class TinyTask(Task):
    """Its score after each epoch is given: another attempt may score another, as on a GPU."""

    selection = Selection("score", "max")

    def __init__(self, context: RunContext, options: TinyOptions, **given: Any) -> None:
        super().__init__(options, context)
        self.scores: dict[int, float] = given.get("scores", {})
        self.data: str = given.get("data", "data")
        self.validation_scores: dict[int, float] | None = given.get("validation_scores")
        if self.validation_scores is not None:
            self.validation_list = "validation"
        self.num_items: int = given.get("num_items", 3)
        self.read: Callable[[int], Any] = given.get("read", float)
        self.measured: dict[int, dict[str, torch.Tensor]] = {}
        """The model of each evaluation, by epochs trained."""
        self._epochs = 0

    def build_model(self, device: torch.device) -> nn.Module:
        del device
        return nn.Linear(1, 1)

    def num_train_items(self) -> int:
        return self.num_items

    def train_data(self, epoch: int) -> Items:
        self._epochs = epoch + 1
        return Items(self.num_items, self.read)

    def forward(self, model: nn.Module, batch: Any) -> Any:
        return model(batch)

    def loss(self, output: Any, batch: Any) -> Sequence[Term]:
        del batch
        return [Term((output**2).mean(), "items")]

    def lists(self) -> Sequence[str]:
        return ("test", *((self.validation_list,) if self.validation_list else ()))

    def eval_data(self, name: str) -> Items:
        del name
        return Items(1)

    def tally(self, name: str) -> GivenScores:
        scores = self.scores if name == "test" else self.validation_scores or {}
        return GivenScores(scores.get(self._epochs, 0.0))

    def begin_evaluation(self, model: nn.Module) -> None:
        state = {name: value.clone() for name, value in model.state_dict().items()}
        self.measured[self._epochs] = state

    def predict(self, model: nn.Module, item: Any, device: torch.device) -> None:
        del model, item, device

    def identity(self, model: nn.Module) -> dict[str, str]:
        del model
        return {"data": self.data}


@dataclass
class TinyRun:
    """A run in `folder`; each `attempt` trains on from what is there."""

    folder: Path
    options: TinyOptions = field(default_factory=TinyOptions)
    num_workers: int = 0
    attempts: int = 0

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.folder)

    def attempt(self, **given: Any) -> Trainer:
        """A trainer as in a process of its own, with a task of `given`."""
        self.attempts += 1
        context = self._context()
        task = TinyTask(context, self.options, **given)
        torch.manual_seed(0)
        stages = Timetable(task.stages(), epochs=self.options.runtime.epochs)
        precision = Precision("off", ALONE.device)
        model = task.build_model(ALONE.device)
        context.attempt.root.mkdir(parents=True)
        return Trainer(
            Setup(
                context=context,
                task=task,
                declared=DeclaredMetrics(
                    manifest=Path("manifest.yaml"), goals={"score": "max"}, shown="score"
                ),
                ranks=ALONE,
                precision=precision,
                stages=stages,
                learner=Learner(task, model, ALONE, precision, stages.at(0), micro_batch=1),
                micro_batch=1,
                stop=StopRequest(),
                events=EventLog(context.attempt.events),
            )
        )

    def _context(self) -> RunContext:
        return RunContext(
            run=self.paths,
            attempt=AttemptPaths(self.folder / "attempts" / f"{self.attempts:04d}"),
            run_id="tiny",
            config={},
            config_hash="c0ffee",
            device_kind="cpu",
            cache_dir=self.folder,
            data_root=None,
            weights=None,
            num_workers=self.num_workers,
        )
