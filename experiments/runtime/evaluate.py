"""Evaluation: a fixed list of items, each predicted once over all ranks, never padded.

Items are predicted in chunks. The list of chunks follows from the task's order and the option
`eval_chunk` before it is divided over ranks: which items a model sees together, and with that the
last bit of a prediction, does not depend on the number of ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import nn

from experiments.runtime.distributed import Ranks, all_reduce_sum, any_rank
from experiments.runtime.entry import NonFiniteError
from experiments.runtime.finite import is_finite
from experiments.runtime.loaders import LoaderSettings, load_items
from experiments.runtime.precision import Precision
from experiments.runtime.samplers import EvalSampler
from experiments.runtime.seeds import torch_generator
from experiments.runtime.stop import Stopped, StopRequest
from experiments.runtime.task import Item, Sums, Task
from merge.errors import UsageError

Chunk = Sequence[int]
"""Indices of items that are predicted together."""


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """The tally of a list's first chunks, over all ranks."""

    num_chunks: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class Saving:
    """How an evaluation is saved on its way."""

    is_due: Callable[[int], bool]
    """Asked on each rank before each chunk, with how many are done over all ranks. One rank that
    says yes is enough."""
    save: Callable[[Partial], None]
    """Called on all ranks together, where it is due and before a stop."""


def evaluate(  # noqa: PLR0913
    task: Task,
    name: str,
    model: nn.Module,
    *,
    ranks: Ranks,
    precision: Precision,
    num_workers: int,
    stop: StopRequest,
    loader_timeout_s: float = 0.0,
    begun: Partial | None = None,
    saving: Saving | None = None,
) -> Sums:
    """The tally of the list `name`, on every rank; equal for any number of ranks.

    `begun` is what `saving` saved of it before, with any number of ranks. Stopped where a rank
    received a stop request: without `saving` the unfinished evaluation is dropped.
    """
    was_training = model.training
    model.eval()
    task.begin_evaluation(model)
    settings = LoaderSettings(num_workers=num_workers, timeout_s=loader_timeout_s)
    one = _Pass(task, name, model, ranks, precision, begun)
    items = one.load(settings)
    # Every rank makes the same number of rounds, so that all can agree on a stop in each.
    for turn in range(one.num_turns):
        is_due = saving is not None and saving.is_due(one.num_done(turn))
        must_stop, is_due, is_bad = any_rank((stop.is_requested, is_due, one.is_bad), ranks)
        if is_bad:
            raise _not_finite(name)
        if saving is not None and (must_stop or is_due):
            saving.save(one.partial(turn))
        if must_stop:
            raise Stopped
        one.take(turn, items)
    if any_rank((one.is_bad,), ranks)[0]:
        raise _not_finite(name)
    model.train(was_training)
    return one.sums()


def _not_finite(name: str) -> NonFiniteError:
    return NonFiniteError(
        f"a prediction for the list {name!r} is NaN or infinite: the model is destroyed, or "
        "overflows in mixed precision (amp=off); lower lr or clip the gradient (clip_norm)"
    )


def eval_chunks(order: Sequence[int], size: int) -> list[Chunk]:
    """Consecutive places of `order` in chunks of `size`, the last one shorter."""
    return [order[at : at + size] for at in range(0, len(order), size)]


class _Pass:
    """One rank's way through a list, from where it was begun."""

    def __init__(
        self,
        task: Task,
        name: str,
        model: nn.Module,
        ranks: Ranks,
        precision: Precision,
        begun: Partial | None,
    ) -> None:
        self._task, self._model, self._ranks, self._precision = task, model, ranks, precision
        self._data, self._tally, self._begun = task.eval_data(name), task.tally(name), begun
        self.is_bad = False
        """Whether a prediction of this rank was NaN or infinite."""
        self._first = 0 if begun is None else begun.num_chunks
        chunks = eval_chunks(task.eval_order(name), task.options.runtime.eval_chunk)
        left = chunks[self._first :]
        self.num_turns = math.ceil(len(left) / ranks.world_size)
        places = EvalSampler(len(left), rank=ranks.rank, world_size=ranks.world_size)
        self._own = [left[place] for place in places]

    def load(self, settings: LoaderSettings) -> Iterator[Item]:
        """This rank's items in their order."""
        # Single items: a task that predicts several together stacks them in `predict_chunk`.
        places = list(chain.from_iterable(self._own))
        # The global generator is the training's: an evaluation draws nothing from it.
        generator = torch_generator(0, "evaluation", self._ranks.rank)
        return load_items(self._data, places, generator, settings)

    def take(self, turn: int, items: Iterator[Item]) -> None:
        """Predict and count this rank's chunk of a round; in the last one it may have none."""
        if turn == len(self._own):
            return
        chunk = self._own[turn]
        present = list(islice(items, len(chunk)))
        try:
            with torch.inference_mode(), self._precision.autocast():
                predictions = self._task.predict_chunk(self._model, present, self._ranks.device)
        except NonFiniteError:
            # In the next round all ranks end with it, with the same words.
            self.is_bad = True
            return
        if len(predictions) != len(chunk):
            raise UsageError(
                f"Task.predict_chunk returned {len(predictions)} predictions for {len(chunk)} "
                "items: it must return one for each, in their order"
            )
        self.is_bad |= not is_finite(predictions)
        for index, prediction, item in zip(chunk, predictions, present, strict=True):
            self._tally.add(index, prediction, item)

    def sums(self) -> Sums:
        """What all ranks have counted, with what was counted before."""
        total: Sums = all_reduce_sum(torch.from_numpy(self._tally.state()), self._ranks).numpy()
        return total if self._begun is None else total + self._begun.sums

    def num_done(self, num_turns: int) -> int:
        """Chunks of the list that are done after so many rounds."""
        return self._first + num_turns * self._ranks.world_size

    def partial(self, num_turns: int) -> Partial:
        """What there is after so many rounds."""
        return Partial(self.num_done(num_turns), self.sums())
