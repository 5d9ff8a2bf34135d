"""An exponential moving average of a model's weights, and the exchange with those that train.

What is averaged is all that a checkpoint holds of the model: parameters and the statistics of batch
norm. Counters are copied. The averaged model is the one that is tested, kept as the best and saved
for use, so all three happen inside `exchanged`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class MovingAverage:
    """The average of the tensors `weights`, which go on training in place."""

    def __init__(self, weights: Mapping[str, Any], decay: float) -> None:
        """Begin with a copy of `weights`."""
        self._decay = decay
        self._num_updates = 0
        self._state = weights
        # Parameters that are tied have two names: exchanged twice, they would not change at all.
        floating = [name for name, each in weights.items() if _is_floating(each)]
        first_names: dict[int, str] = {}
        self._name_of = {
            name: first_names.setdefault(weights[name].data_ptr(), name) for name in floating
        }
        self._weights = {name: weights[name] for name in first_names.values()}
        self._average = {name: each.detach().clone() for name, each in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after an optimiser step."""
        self._num_updates += 1
        # A weight that rests stays equal to the last bit: its difference is exactly 0.
        torch._foreach_lerp_(
            list(self._average.values()),
            [each.detach() for each in self._weights.values()],
            1 - self._present_decay(),
        )

    def _present_decay(self) -> float:
        """The decay rises with the updates, or the first weights would last for thousands."""
        return min(self._decay, (1 + self._num_updates) / (10 + self._num_updates))

    @contextmanager
    def exchanged(self) -> Iterator[None]:
        """The model has the average for its weights, in the same memory; afterwards its own."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Swap average and weights."""
        # In place: graphs, compiled code and optimiser hold the addresses of the weights.
        for name, weight in self._weights.items():
            own = weight.detach().clone()
            weight.copy_(self._average[name])
            self._average[name].copy_(own)

    def model_state(self) -> dict[str, Any]:
        """The averaged model by its names, as its own state is saved."""
        averaged = {name: self._average[first] for name, first in self._name_of.items()}
        return {name: averaged.get(name, value) for name, value in self._state.items()}

    @property
    def num_updates(self) -> int:
        """Optimiser steps that are in the average."""
        return self._num_updates

    @torch.no_grad()
    def load(self, state: Mapping[str, Any], num_updates: int) -> None:
        """Go on from a saved `model_state`."""
        for name, average in self._average.items():
            average.copy_(state[name])
        self._num_updates = num_updates


def _is_floating(value: object) -> bool:
    # Empty tensors share the address 0, and have nothing to average.
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() > 0
