"""The model of one run under training: DDP, optimiser, accumulation, mixed precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from experiments.runtime.batches import Batch, shares, to_device
from experiments.runtime.data_parallel import data_parallel, share_buffers
from experiments.runtime.distributed import Ranks
from experiments.runtime.ema import MovingAverage
from experiments.runtime.meter import CountMeter
from experiments.runtime.optimisers import build_optimiser
from experiments.runtime.precision import Precision
from experiments.runtime.stages import Stage, resting_modules, set_trained_parts
from experiments.runtime.sync_batch_norm import synchronised
from experiments.runtime.task import Task, Term
from merge.errors import UsageError
from merge.wording import hint

State = dict[str, Any]

_LEAST_SCALE = 2.0**-14
"""A gradient that overflows fp16 at this scale is not below 1e9."""


class Learner:
    """Takes optimiser steps on a model; the same step on every rank."""

    def __init__(
        self,
        task: Task,
        model: nn.Module,
        ranks: Ranks,
        precision: Precision,
        stage: Stage,
        *,
        micro_batch: int = 0,
    ) -> None:
        """`micro_batch` is how many items are computed at a time; 0 is the whole batch."""
        self._task = task
        self._micro_batch = micro_batch
        self._options = task.options.runtime
        model = model.to(ranks.device)
        self.model = synchronised(model, ranks) if self._options.sync_batch_norm else model
        self.trainable = tuple(
            name for name, each in model.named_parameters() if each.requires_grad
        )
        """Names of the parameters that train in any stage."""
        self._ranks = ranks
        self._precision = precision
        # What is frozen is equal on all ranks by its weight file: nothing of it has to travel.
        self._frozen = frozenset(task.frozen(self.model))
        self.counts = CountMeter()
        """What `Task.train_counts` counts in the epoch that is going on."""
        self.gradient_norm: Tensor | None = None
        """Of the last step before it was clipped, on the device; None where clip_norm is 0. With
        fp16 it may be infinite: such a step is left out, and the next loss is scaled less."""
        decay = self._options.ema_decay
        self._average = MovingAverage(self.trained_state(), decay) if decay else None
        self.begin_stage(stage)

    def begin_stage(self, stage: Stage) -> None:
        """Train as `stage` says from here on; of the stage before, the model's weights stay."""
        self._task.stage = stage
        # A parameter that rests from now on would keep its last gradient in memory, and the old
        # wrapper its buckets, which are as large, while the new one is made.
        self.model.zero_grad(set_to_none=True)
        self._parallel = self.model
        # Before DDP wraps the model: it looks once at which gradients it has to average, so a part
        # that is unfrozen later trains on each rank by itself.
        set_trained_parts(self.model, stage, self.trainable)
        self._resting = resting_modules(self.model, stage)
        self._parallel = data_parallel(self.model, self._ranks, unsynchronised=self._frozen)
        self._optimiser = build_optimiser(self.model, stage)
        self._scaler = self._precision.new_scaler()

    def step(self, batch: Batch, *, shares_of_rank: Mapping[str, float], lr: float) -> Tensor:
        """One optimiser step; this rank's part of the loss, a detached scalar on the device.

        `shares_of_rank` are this rank's counts (see `Task.weights`) over their means over ranks:
        with them the averaged gradient is that of the mean loss over the global batch.
        """
        self._parallel.train()
        # train() reaches every module: those at rest would update their batch statistics.
        for module in self._resting:
            module.eval()
        # The rate follows from the step alone, so a checkpoint carries no state of a scheduler.
        self._optimiser.set_rate(lr)
        self._optimiser.torch.zero_grad(set_to_none=True)
        *before, last = self._parts(batch)
        with self._no_sync():
            losses = [self._accumulate(*part, shares_of_rank) for part in before]
        losses.append(self._accumulate(*last, shares_of_rank))
        self._clip()
        self._scaler.step(self._optimiser.torch)
        self._scaler.update()
        if self._average is not None:
            self._average.update()
        return sum(losses[1:], start=losses[0])

    @property
    def may_skip_steps(self) -> bool:
        """Whether a step whose gradient is not finite is left out, as fp16 needs now and then."""
        return self._scaler.is_enabled()

    @property
    def is_overflowing(self) -> bool:
        """Whether fp16 leaves out every step, however little the loss is scaled; waits for GPUs."""
        return self.may_skip_steps and self._scaler.get_scale() < _LEAST_SCALE

    def _clip(self) -> None:
        """Limit the gradient of the global batch: all its parts and ranks are in it by now."""
        if not self._options.clip_norm:
            return
        # With fp16 it is scaled: the limit is for what the optimiser will use.
        self._scaler.unscale_(self._optimiser.torch)
        self.gradient_norm = nn.utils.clip_grad_norm_(
            [each for each in self.model.parameters() if each.requires_grad],
            self._options.clip_norm,
        )

    @contextmanager
    def tested_model(self) -> Iterator[nn.Module]:
        """The model that is tested and kept, on all ranks: the moving average where there is one.

        Statistics of batch norm are those of rank 0.
        """
        with self._exchanged():
            share_buffers(self.model, self._ranks, unless=self._frozen)
            yield self.model

    def _exchanged(self) -> AbstractContextManager[None]:
        return nullcontext() if self._average is None else self._average.exchanged()

    def finish(self) -> None:
        """Training is over: from here on `model` is the one that was tested."""
        if self._average is not None:
            self._average.exchange()
            self._average = None

    def _parts(self, batch: Batch) -> list[tuple[Batch, dict[str, float]]]:
        """The parts that are computed one after the other, each with its shares of the batch."""
        whole = self._task.weights(batch)
        parts = self._task.split(batch, self._micro_batch) if self._micro_batch else [batch]
        return [(part, shares(self._task.weights(part), whole)) for part in parts]

    def _accumulate(
        self,
        batch: Batch,
        shares_of_part: Mapping[str, float],
        shares_of_rank: Mapping[str, float],
    ) -> Tensor:
        """Add the gradient of a part of the batch; its part of the loss."""
        batch = to_device(batch, self._ranks.device)
        with self._precision.autocast():
            output = self._task.forward(self._parallel, batch)
        with torch.no_grad():
            self.counts.add(self._task.train_counts(output, batch))
        loss = weighted_sum(self._task.loss(output, batch), shares_of_rank, shares_of_part)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _no_sync(self) -> AbstractContextManager[None]:
        """Gradients stay on this rank: the last part's step brings the sum to all."""
        if isinstance(self._parallel, DistributedDataParallel):
            return self._parallel.no_sync()
        return nullcontext()

    def tested_state(self) -> State:
        """What `trained_state` is of the model that is tested."""
        return self.trained_state() if self._average is None else self._average.model_state()

    def trained_state(self) -> State:
        """The model's state without what its weight file decides."""
        return trained_state(self._task, self.model)

    def state_dict(self) -> State:
        """Model (see `trained_state`), its moving average, optimiser and loss scaler."""
        state: State = {
            "model": self.trained_state(),
            "optimizer": self._optimiser.torch.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        if self._average is not None:
            state["average"] = self._average.model_state()
            state["num_averaged"] = self._average.num_updates
        return state

    def load_state_dict(self, state: State) -> None:
        """Go on from what `state_dict` returned."""
        load_trained_state(self._task, self.model, state["model"])
        self._optimiser.torch.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load(state["average"], state["num_averaged"])
        self._scaler.load_state_dict(state["scaler"])


def weighted_sum(terms: Iterable[Term], *shares_of: Mapping[str, float]) -> Tensor:
    """The loss of a part of the global batch: over all parts and ranks it is that of the whole."""
    total: Tensor | None = None
    if isinstance(terms, Tensor | Term):
        raise _not_terms(terms)
    for term in terms:
        _check_term(term, shares_of)
        share = term.factor
        for each in shares_of:
            share *= each[term.counted]
        total = term.value * share if total is None else total + term.value * share
    if total is None:
        raise ValueError("a loss without any term: Task.loss must return at least one")
    return total


def _check_term(term: object, shares_of: Sequence[Mapping[str, float]]) -> None:
    if not isinstance(term, Term):
        raise _not_terms(term)
    for each in shares_of:
        if term.counted not in each:
            raise UsageError(
                f"a term of Task.loss is a mean over {term.counted!r}, which Task.weights does "
                f"not count{hint(term.counted, each)}"
            )


def _not_terms(found: object) -> UsageError:
    return UsageError(
        'Task.loss must return a list of terms, such as [Term(value, "items")]; '
        f"found: {type(found).__name__}"
    )


def trained_state(task: Task, model: nn.Module) -> State:
    """The model's state without what its weight file decides."""
    frozen = task.frozen(model)
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def load_trained_state(task: Task, model: nn.Module, state: State) -> None:
    """Load what `trained_state` returned into a model of the same configuration and weights."""
    model.load_state_dict({**task.frozen(model), **state})
