"""The optimiser of a stage: its parameter groups, each with its rate and weight decay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from experiments.runtime.options import OptimiserOptions
from experiments.runtime.stages import ParameterGroup, Stage, is_inside


@dataclass(frozen=True, slots=True)
class Optimiser:
    """An optimiser whose groups keep their relation while the learning rate changes."""

    torch: torch.optim.Optimizer
    rate_factors: tuple[float, ...]
    """Of each of its groups."""

    def set_rate(self, lr: float) -> None:
        """Set the learning rate of the next step."""
        for group, factor in zip(self.torch.param_groups, self.rate_factors, strict=True):
            group["lr"] = lr * factor


def build_optimiser(model: nn.Module, stage: Stage) -> Optimiser:
    """The optimiser of `stage` over the parameters that train in it.

    ValueError: a group names a part that the model lacks, or a parameter lies in two groups.
    """
    options = stage.optimiser
    groups, factors = [], []
    for group, parameters in _grouped(model, stage):
        decay = options.weight_decay if group.weight_decay is None else group.weight_decay
        for members, own_decay in _by_decay(parameters, decay, options):
            groups.append({"params": members, "weight_decay": own_decay})
            factors.append(group.rate_factor)
    return Optimiser(_new(options, groups), tuple(factors))


def _grouped(model: nn.Module, stage: Stage) -> Iterable[tuple[ParameterGroup, list[nn.Parameter]]]:
    """Each group with its parameters that train; first the rest of the model."""
    trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
    names = [_members(model, group) & trained.keys() for group in stage.groups]
    counts = Counter(name for each in names for name in each)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"stage {stage.name!r}: {min(twice)!r} lies in two parameter groups")
    everywhere = [trained.keys() - counts.keys(), *names]
    for group, inside in zip((ParameterGroup(parts=()), *stage.groups), everywhere, strict=True):
        if inside:
            yield group, [each for name, each in trained.items() if name in inside]


def _members(model: nn.Module, group: ParameterGroup) -> set[str]:
    names = [name for name, _ in model.named_parameters()]
    for part in group.parts:
        if not any(is_inside(name, part) for name in names):
            parts = ", ".join(name for name, _ in model.named_children())
            raise ValueError(
                f"a parameter group names {part!r}, where the model has no parameter; its parts "
                f"are {parts}"
            )
    return {name for name in names if any(is_inside(name, part) for part in group.parts)}


def _by_decay(
    parameters: Sequence[nn.Parameter], decay: float, options: OptimiserOptions
) -> list[tuple[list[nn.Parameter], float]]:
    """The parameters with their weight decay, those without any apart."""
    if options.decay_norms_and_biases or not decay:
        return [(list(parameters), decay)]
    decaying = [each for each in parameters if each.ndim > 1]
    others = [each for each in parameters if each.ndim <= 1]
    return [(each, rate) for each, rate in ((decaying, decay), (others, 0.0)) if each]


def _new(options: OptimiserOptions, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr, betas=(options.momentum, 0.999))
    return torch.optim.SGD(
        groups, lr=options.lr, momentum=options.momentum, nesterov=options.nesterov
    )
