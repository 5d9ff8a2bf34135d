"""Learning-rate schedules: the rate of an optimiser step as a part of the highest one.

Each is a function of the step alone. The curves are those of torch.optim.lr_scheduler: LinearLR
(the warm-up), PolynomialLR, CosineAnnealingLR, MultiStepLR and OneCycleLR (its rates alone, the
momentum does not change), stepped once for each optimiser step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Schedule = Literal["poly", "constant", "cosine", "onecycle", "multistep"]

_RISING_SHARE = 0.3
"""Share of the steps in which onecycle rises, where no warm-up is set; torch's default."""
_ONE_CYCLE_END = 1e-4
"""Last rate of onecycle relative to its first one; torch's default."""


def poly(step: int, num_steps: int, power: float) -> float:
    """From 1 to 0; linear for a power of 1."""
    part: float = (1 - step / num_steps) ** power
    return part


def cosine(step: int, num_steps: int) -> float:
    """From 1 to 0 along half a cosine."""
    return (1 + math.cos(math.pi * step / num_steps)) / 2


def multistep(step: int, milestones: Sequence[int], gamma: float) -> float:
    """`gamma` for each step in `milestones` that is over."""
    part: float = gamma ** sum(milestone <= step for milestone in milestones)
    return part


def linear_rise(step: int, num_steps: int, start: float) -> float:
    """From `start` to 1 in `num_steps` steps, then 1."""
    return start + (1 - start) * step / num_steps if step < num_steps else 1.0


def one_cycle(step: int, num_steps: int, num_rising: int, start: float) -> float:
    """From `start` up to 1 and down to almost 0, both along half a cosine.

    `num_rising` is how many steps it rises; 0 takes torch's share of `num_steps`.
    """
    top = (num_rising or _RISING_SHARE * num_steps) - 1
    if step <= top and top > 0:
        return _along_cosine(start, 1.0, step / top)
    # A single step that rises is the top.
    part = (step - top) / (num_steps - 1 - top) if step > top else 0.0
    return _along_cosine(1.0, start * _ONE_CYCLE_END, part)


def _along_cosine(begin: float, end: float, part: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * part)) / 2
