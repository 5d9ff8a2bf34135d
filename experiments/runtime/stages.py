"""Stages: phases of a training one after the other, each with its own optimiser and trained parts.

A stage begins as a training does: with a new optimiser, and a learning rate that counts its own
steps alone. Only the model's weights go on from one stage to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from torch import nn

from experiments.runtime.options import OptimiserOptions
from experiments.runtime.training_options import refuse_long_warm_up
from merge.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """Parts of the model with their own learning rate and weight decay."""

    parts: tuple[str, ...]
    """Names of parts of the model, such as `("head",)`."""
    rate_factor: float = 1.0
    """Their learning rate relative to that of the stage."""
    weight_decay: float | None = None
    """None: the weight decay of the stage's optimiser."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One phase of a training."""

    epochs: int
    """Its length; a stage of 0 epochs is left out."""
    optimiser: OptimiserOptions
    """The optimiser, and its learning rate over the steps of this stage."""
    name: str = "training"
    """Its name in events, logs and checkpoints."""
    trains: tuple[str, ...] | None = None
    """Names of the parts of the model that train, such as `("decoder", "encoder.neck")`. All else
    is frozen and in evaluation mode, so that batch statistics rest too. None: what `build_model`
    left trainable."""
    groups: tuple[ParameterGroup, ...] = ()
    """Parts with a learning rate or weight decay of their own; all else is a group too. A group
    whose parts do not train in this stage is left out."""
    image_size: int | tuple[int, int] | None = None
    """Side of the training images in pixels, or height and width; see `Task.image_size`."""

    def __post_init__(self) -> None:
        warmup_epochs = self.optimiser.warmup_epochs
        refuse_long_warm_up(warmup_epochs, self.epochs, f"stage {self.name!r}")


class Timetable:
    """Which stage each epoch of a training belongs to."""

    def __init__(self, stages: Sequence[Stage], *, epochs: int) -> None:
        """UsageError: the stages do not fill `epochs` epochs, or two have the same name."""
        # A run without training evaluates in its first stage.
        self._stages = [stage for stage in stages if stage.epochs] or list(stages[:1])
        lengths = [stage.epochs for stage in self._stages]
        if sum(lengths) != epochs or min(lengths) < 0:
            parts = ", ".join(f"{stage.name} {stage.epochs}" for stage in stages)
            raise UsageError(
                f"epochs={epochs}, but the stages of this experiment have {sum(lengths)} epochs "
                f"({parts}): change epochs or the options that divide it"
            )
        if len({stage.name for stage in self._stages}) < len(self._stages):
            raise UsageError("two stages have the same name: a checkpoint names its stage")
        self._ends = list(accumulate(lengths))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All stages that have an epoch, in their order."""
        return tuple(self._stages)

    def at(self, epoch: int) -> Stage:
        """The stage of `epoch`, counted from 0; after the last epoch it is the last stage."""
        return self._stages[self._place(epoch)]

    def first_epoch(self, epoch: int) -> int:
        """The epoch in which the stage of `epoch` began."""
        place = self._place(epoch)
        return self._ends[place] - self._stages[place].epochs

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of optimiser step `step`, by the steps of its stage alone."""
        epoch = step // steps_per_epoch
        stage = self.at(epoch)
        in_stage = step - self.first_epoch(epoch) * steps_per_epoch
        return stage.optimiser.rate(in_stage, stage.epochs * steps_per_epoch, steps_per_epoch)

    def _place(self, epoch: int) -> int:
        ended = sum(end <= epoch for end in self._ends)
        return min(ended, len(self._ends) - 1)


def set_trained_parts(model: nn.Module, stage: Stage, trainable: Iterable[str]) -> None:
    """Set `requires_grad` of all parameters as the stage has it, within those named `trainable`.

    ValueError: the stage names a part that has none of them.
    """
    names = frozenset(trainable)
    for part in stage.trains or ():
        if not any(is_inside(name, part) for name in names):
            parts = ", ".join(name for name, _ in model.named_children())
            raise ValueError(
                f"stage {stage.name!r} trains {part!r}, where the model has no parameter to train; "
                f"its parts are {parts}"
            )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names and _is_trained(name, stage))


def resting_modules(model: nn.Module, stage: Stage) -> list[nn.Module]:
    """The modules that lie in no trained part of the stage, and hold none."""
    if stage.trains is None:
        return []
    return [
        module
        for name, module in model.named_modules()
        if name and not _is_trained(name, stage) and not _holds_trained(name, stage)
    ]


def _is_trained(name: str, stage: Stage) -> bool:
    return stage.trains is None or any(is_inside(name, part) for part in stage.trains)


def _holds_trained(name: str, stage: Stage) -> bool:
    return any(is_inside(part, name) for part in stage.trains or ())


def is_inside(name: str, part: str) -> bool:
    """Whether the parameter or module `name` is `part` or lies in it."""
    return name == part or name.startswith(f"{part}.")
