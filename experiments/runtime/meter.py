"""The running mean of a loss, and the first step at which it was not finite."""

from __future__ import annotations

import torch

from experiments.runtime.entry import NonFiniteError


class LossMeter:
    """Sums a rank's loss on its device, without waiting for the GPU at every step."""

    def __init__(self, device: torch.device) -> None:
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)

    def add(self, loss: torch.Tensor, step: int) -> None:
        """Take the loss of optimiser step `step`, a detached scalar."""
        is_first = ~torch.isfinite(loss) & (self._first_bad_step < 0)
        self._first_bad_step = self._first_bad_step.masked_fill(is_first, step)
        self._sum += loss

    def check(self) -> None:
        """NonFiniteError names the first step whose loss was NaN or infinite."""
        step = int(self._first_bad_step.item())
        if step >= 0:
            raise NonFiniteError(
                f"the loss became NaN or infinite at step {step}: lower lr, or set amp=off if "
                "mixed precision is on"
            )

    @property
    def sum(self) -> float:
        """Sum over this rank's steps since the last reset."""
        return float(self._sum.item())

    def reset(self, start: float = 0.0) -> None:
        """Begin a new sum, at `start` where an epoch is resumed."""
        self._sum.fill_(start)
