"""What a rank sums over the steps of an epoch, on its device: the loss, and counts of a task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from experiments.runtime.distributed import Ranks, all_reduce_sum


class LossMeter:
    """Sums a rank's loss on its device, without waiting for the GPU at every step."""

    def __init__(self, device: torch.device) -> None:
        self._sum = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, loss: torch.Tensor) -> None:
        """Take the loss of an optimiser step, a detached scalar."""
        self._sum += loss

    @property
    def sum(self) -> float:
        """Sum over this rank's steps since the last reset."""
        return float(self._sum.item())

    def reset(self, start: float = 0.0) -> None:
        """Begin a new sum, at `start` where an epoch is resumed."""
        self._sum.fill_(start)


class CountMeter:
    """Sums what `Task.train_counts` returns, in the same way."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, counts: Mapping[str, Tensor]) -> None:
        """Take the counts of a part of a batch."""
        for name, count in counts.items():
            known = self._sums.get(name)
            if known is None:
                self._sums[name] = count.detach().clone()
            else:
                # A checkpoint leaves it on the CPU.
                self._sums[name] = known.to(count.device) + count.detach()

    def total(self, ranks: Ranks) -> dict[str, Tensor]:
        """The sums over all ranks, on the CPU; all ranks call it."""
        own = self.state()
        return {name: all_reduce_sum(own[name], ranks) for name in sorted(own)}

    def state(self) -> dict[str, Tensor]:
        """This rank's sums, as a checkpoint holds them."""
        return {name: each.cpu() for name, each in self._sums.items()}

    def reset(self, start: Mapping[str, Tensor] | None = None) -> None:
        """Begin new sums, at `start` where an epoch is resumed."""
        self._sums = dict(start or {})
