"""The running mean of a loss."""

from __future__ import annotations

import torch


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
