"""The interface between the runtime and an experiment: `Task` and `Tally`.

An experiment's `task.py` has an `open_task(options, context)` that returns its `Task`: a function,
or the class itself under that name. The task says what is trained, on which data, and how a
prediction is judged. Everything else is the runtime's: processes, seeds, batches, gradients,
precision, checkpoints, evaluation over all ranks, events, errors and the result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import default_collate

from experiments.runtime.batches import Batch, num_items, slices
from experiments.runtime.image_sizes import first_images
from experiments.runtime.options import ExperimentOptions
from experiments.runtime.stages import Stage
from merge.results.statistics import mean
from merge.storage.json_files import Json

if TYPE_CHECKING:
    from experiments.runtime.progress import Evaluation
    from experiments.runtime.run_context import RunContext

Sums = NDArray[np.int64] | NDArray[np.float64]
"""Numbers of a tally whose sum over the ranks is that of all items."""

Item = Any
"""One item of `Task.eval_data`, as a loader hands it over."""
Output = Any
"""What `Task.forward` returns."""
Prediction = Any
"""What `Task.predict` returns."""

ItemT = TypeVar("ItemT")
PredictionT = TypeVar("PredictionT")


@dataclass(frozen=True, slots=True)
class Selection:
    """By which metric the best epoch is chosen."""

    metric: str
    goal: Literal["max", "min"]

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` is better; of equal values the earlier one stays."""
        return value > than if self.goal == "max" else value < than


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of a loss: a mean over what it counts, such as the pixels of a batch."""

    value: Tensor
    """A scalar, with its gradient. Finite also where nothing counts, such as 0 for a micro-batch
    whose pixels are all ignored: its share is 0, and 0 times NaN is NaN."""
    counted: str
    """A key of `Task.weights`: what `value` is a mean over."""
    factor: float = 1.0
    """Its weight beside the other terms."""


class Dataset(Sized, Protocol):
    """Items by index, read in loader processes."""

    def __getitem__(self, index: int, /) -> Item: ...


class Tally(ABC, Generic[PredictionT, ItemT]):
    """Collects what predictions score, so that ranks can add up what each has seen."""

    @abstractmethod
    def add(self, index: int, prediction: PredictionT, item: ItemT) -> None:
        """Take the prediction for item `index` of the evaluated data."""

    @abstractmethod
    def state(self) -> Sums:
        """What was collected; summed over the ranks it is what one rank collects from all items.

        Counts are sums already. A metric that needs single items (average precision, AUC, mean
        absolute error) keeps an array with one row an item, zero for items it has not seen: each
        row is filled by one rank, so that also float64 rows do not depend on the world size.
        """

    @abstractmethod
    def metrics(self, state: Sums) -> dict[str, float]:
        """The metrics by name, from a state of all items."""


class Task(ABC):
    """What one run trains and tests, for its options and its data."""

    selection: Selection
    validation_list: str | None = None
    """The one of `lists` on which the best epoch is chosen; it is no part of the result. None: the
    best epoch is chosen on what is tested, and the result says so."""
    identity_of_model: tuple[str, ...] = ("weights",)
    """Names of `identity` that a trained model depends on. The others may differ where a checkpoint
    is evaluated again, such as on another data set."""
    stage: Stage
    """The stage that is going on, set by the runtime once the model is built."""

    def __init__(self, options: ExperimentOptions, context: RunContext) -> None:
        self.options = options
        self.context = context

    # --- what is trained

    @abstractmethod
    def build_model(self, device: torch.device) -> nn.Module:
        """The model before training, on the CPU; `device` is where it will compute.

        Set `requires_grad` here. Random numbers are seeded equally on all ranks.
        """

    def stages(self) -> Sequence[Stage]:
        """The phases of the training, one after the other; together they have `epochs` epochs."""
        return [Stage(epochs=self.options.runtime.epochs, optimiser=self.options.optimiser)]

    def num_train_items(self) -> int:
        """Items in one epoch; the same in every epoch."""
        return len(self.train_data(0))

    @abstractmethod
    def train_data(self, epoch: int) -> Dataset:
        """The items of `epoch`, counted from 0.

        Random numbers must follow from (seed, epoch, index) alone, so that they depend on no rank
        and no loader process. Images may have another size in each epoch, or in each `stage`.
        """

    def image_size(self, epoch: int) -> int | tuple[int, int] | None:
        """Side of the training images of `epoch` in pixels, or height and width; None: any size.

        The runtime asks before it makes the loaders of an epoch, and holds its first batch
        against it. `train_data` makes the images.
        """
        del epoch
        return self.stage.image_size

    def images(self, batch: Batch) -> Tensor | None:
        """The images NCHW of a batch, whose size is checked; the first tensor of such a shape."""
        return first_images(batch)

    def collate(self, items: Sequence[Any]) -> Batch:
        """Items as one batch."""
        return default_collate(list(items))

    def split(self, batch: Batch, size: int) -> list[Batch]:
        """A batch in parts of `size` items, the last one shorter.

        This works for tensors, tuples and dicts of them whose first dimension counts items.
        """
        return slices(batch, size)

    def weights(self, batch: Batch) -> Mapping[str, int]:
        """What the terms of the loss are means over, such as `{"pixels": 1024}`.

        A rank or part of a batch with more of it weighs more, so that the step is that of the
        mean over the whole global batch. Unless overridden it is the number of items.
        """
        return {"items": num_items(batch)}

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> Output:
        """The output for a training batch on the device, computed in mixed precision.

        `model` may be wrapped for data-parallel training: call it, use no attribute of it.
        """

    @abstractmethod
    def loss(self, output: Output, batch: Batch) -> Sequence[Term]:
        """The terms of the loss, computed in full precision."""

    def train_counts(self, output: Output, batch: Batch) -> Mapping[str, Tensor]:
        """What is counted while training, such as `{"correct": (output.argmax(1) == y).sum()}`.

        Sums over the batch, on its device: a scalar, or a confusion matrix. Add the number of items
        where a share is wanted.
        """
        del output, batch
        return {}

    def train_metrics(self, counts: Mapping[str, Tensor]) -> dict[str, float]:
        """Metrics of a training epoch, from the sums of `train_counts` over all steps and ranks."""
        del counts
        return {}

    def frozen(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The part of the model's state that its weight file decides and no training changes.

        It is in no checkpoint and is not sent between ranks.
        """
        del model
        return {}

    # --- what is tested

    def lists(self) -> Sequence[str]:
        """Names of the lists of items that an evaluation goes through."""
        return ("test",)

    @abstractmethod
    def eval_data(self, name: str) -> Dataset:
        """The items of the list `name`; equal in every evaluation."""

    def eval_order(self, name: str) -> Sequence[int]:
        """In which order items are predicted; no number depends on it."""
        return range(len(self.eval_data(name)))

    @abstractmethod
    def tally(self, name: str) -> Tally[Any, Any]:
        """An empty tally for the list `name`."""

    def begin_evaluation(self, model: nn.Module) -> None:  # noqa: B027
        """Called before each list is evaluated: `model` has trained since the last time."""

    @abstractmethod
    def predict(self, model: nn.Module, item: Item, device: torch.device) -> Prediction:
        """The prediction for one item of `eval_data`, computed in mixed precision, no gradients."""

    def predict_chunk(
        self, model: nn.Module, items: Sequence[Item], device: torch.device
    ) -> Sequence[Prediction]:
        """The predictions for `eval_chunk` consecutive items of `eval_order`, or fewer at its end.

        Override it where several together are faster. Items come together in the same way for any
        number of ranks.
        """
        return [self.predict(model, item, device) for item in items]

    def metrics(self, states: Mapping[str, Sums]) -> dict[str, float]:
        """The metrics of an evaluation: means over its lists."""
        each = [self.tally(name).metrics(state) for name, state in states.items()]
        return {name: mean([metrics[name] for metrics in each]) for name in each[0]}

    # --- what is recorded

    def identity(self, model: nn.Module) -> dict[str, str]:
        """Data, weights and lists by name; a checkpoint made with other ones is refused."""
        del model
        return {}

    def describe(self, evaluation: Evaluation) -> dict[str, Json]:
        """What the result's details hold of an evaluation."""
        return {**evaluation.summary()}

    def details(self, model: nn.Module) -> dict[str, Json]:
        """What else the result's details hold: all that is needed to judge the numbers."""
        del model
        return {}

    def finish(self, model: nn.Module, reported: Evaluation, device: torch.device) -> None:  # noqa: B027
        """Write further files of the run, on rank 0; `model` is the reported one."""
