"""The options that all experiments share: what the runtime and the optimiser do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from experiments.runtime.option_notes import FREE, TESTS, Range
from experiments.runtime.schedules import (
    Schedule,
    cosine,
    linear_rise,
    multistep,
    one_cycle,
    poly,
)
from merge.errors import UsageError

Amp = Literal["auto", "off", "bf16", "fp16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """What the runtime does in every experiment."""

    epochs: Annotated[int, Range(1)] = 1
    """Training epochs."""
    global_batch: Annotated[int, Range(1)] = 1
    """Items in one optimiser step, over all ranks together."""
    micro_batch: Annotated[int, Range(0), FREE] = 0
    """Items a rank computes at a time, gradients summed to the same step; 0 is all of its share.
    Where batch norm is trained it decides the number, elsewhere none."""
    amp: Amp = "auto"
    """Mixed precision; auto is bf16 (fp16 on older GPUs) on CUDA and off on CPU."""
    tf32: bool = True
    """On CUDA, multiply float32 in TF32, of which only 10 bits of a fraction count; products that
    amp has in a half type are not meant. false is float32 as it stands, several times slower."""
    clip_norm: Annotated[float, Range(0)] = 0.0
    """Largest norm of the gradient of a global batch; 0 does not clip."""
    ema_decay: Annotated[float, Range(0, 1)] = 0.0
    """Decay of an exponential moving average of the weights, which is then the model that is
    tested and saved; step n has min(ema_decay, (1 + n) / (10 + n)). 0 keeps none."""
    sync_batch_norm: bool = False
    """Batch norm normalises over all ranks instead of each by itself."""
    checkpoint_activations: Annotated[bool, FREE] = False
    """Compute activations again in the backward pass, for less memory, where the model can."""
    deterministic: bool = False
    """Use only deterministic GPU operations, which are slower; a CPU always does."""
    seed: Annotated[int, Range(0)] = 0
    """Root of all random streams of the training."""
    eval_every: Annotated[int, Range(1)] = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    eval_chunk: Annotated[int, Range(1), TESTS] = 1
    """Test items that are predicted together; more of them may round in another way."""
    report: Literal["best", "final"] = "best"
    """Epoch whose metrics are the result; choosing the best on tested data is the field's habit."""
    checkpoint_every_steps: Annotated[int, Range(0), FREE] = 0
    """Steps between two checkpoints inside an epoch; 0 leaves it to checkpoint_every_s."""
    checkpoint_every_s: Annotated[float, Range(0), FREE] = 300.0
    """Seconds between two checkpoints inside an epoch; 0 leaves it to the epochs' ends."""
    tensorboard: Annotated[bool, FREE] = True
    """Write TensorBoard scalars beside the events."""
    collective_timeout_s: Annotated[float, Range(1), FREE] = 1800.0
    """Seconds that a rank waits for the other ranks in a collective before the run fails."""
    loader_timeout_s: Annotated[float, Range(0), FREE] = 600.0
    """Seconds that a step waits for its loader processes before the run fails; 0 has no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserOptions:
    """The optimiser and its learning rate, which changes with every optimiser step."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimiser."""
    lr: Annotated[float, Range(0)] = 0.002
    """Initial learning rate; the highest one where it is warmed up."""
    momentum: Annotated[float, Range(0, 1)] = 0.9
    """Momentum of sgd; the first beta of adamw."""
    nesterov: bool = False
    """Nesterov momentum in sgd."""
    weight_decay: Annotated[float, Range(0)] = 0.0001
    """Weight decay."""
    decay_norms_and_biases: bool = True
    """Whether weight decay also holds for parameters with one dimension: norms and biases."""
    schedule: Schedule = "poly"
    """How the learning rate changes: poly, cosine and onecycle fall to 0 at the end."""
    poly_power: Annotated[float, Range(0)] = 0.9
    """Exponent of the poly schedule, lr * (1 - step / num_steps) ** poly_power; 0 keeps lr."""
    milestones: Annotated[tuple[int, ...], Range(1)] = ()
    """Epochs of a stage after which the multistep schedule multiplies the rate by gamma."""
    gamma: Annotated[float, Range(0)] = 0.1
    """Factor of the multistep schedule."""
    warmup_epochs: Annotated[float, Range(0)] = 0.0
    """Epochs in which the rate rises to lr: linearly, in onecycle as half a cosine. Without any,
    onecycle rises for 30% of the steps."""
    warmup_factor: Annotated[float, Range(0, 1)] = 0.04
    """The rate at the beginning of a rise, as a part of lr."""

    def __post_init__(self) -> None:
        if self.schedule == "multistep" and not self.milestones:
            raise UsageError(
                "schedule=multistep without milestones keeps the rate: name the epochs in "
                "milestones, or set schedule=constant"
            )
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise UsageError("nesterov is for optimizer=sgd with a momentum above 0")

    def rate(self, step: int, num_steps: int, steps_per_epoch: int = 1) -> float:
        """Learning rate of optimiser step `step` of `num_steps`, counted from 0.

        It follows from the step alone, so that a checkpoint needs no state of a scheduler.
        """
        num_rising = round(self.warmup_epochs * steps_per_epoch)
        if self.schedule == "onecycle":
            return self.lr * one_cycle(step, num_steps, num_rising, self.warmup_factor)
        if step < num_rising:
            part = linear_rise(step, num_rising, self.warmup_factor)
        else:
            part = self._part(step - num_rising, num_steps - num_rising)
        if self.schedule == "multistep":
            ends = [epoch * steps_per_epoch for epoch in self.milestones]
            part *= multistep(step, ends, self.gamma)
        return self.lr * part

    def _part(self, step: int, num_steps: int) -> float:
        """The part of lr after the warm-up, in `num_steps` steps without it."""
        if self.schedule == "poly":
            return poly(step, num_steps, self.poly_power)
        return cosine(step, num_steps) if self.schedule == "cosine" else 1.0


def refuse_long_warm_up(warmup_epochs: float, epochs: int, where: str) -> None:
    """UsageError where the rate would not have risen to lr at the end of `epochs` epochs."""
    if 0 < epochs <= warmup_epochs:
        raise UsageError(
            f"warmup_epochs={warmup_epochs:g} must be less than the {epochs} epochs of {where}: "
            "lower it or train longer"
        )


class ExperimentOptions(Protocol):
    """What the runtime reads of an experiment's options."""

    @property
    def runtime(self) -> RuntimeOptions: ...

    @property
    def optimiser(self) -> OptimiserOptions: ...
