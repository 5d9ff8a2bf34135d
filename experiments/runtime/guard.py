"""A run whose model is destroyed ends on all ranks, with one error, and never with a number.

Values are noted on the device. They are read where the training waits for the GPU anyway, and one
all-reduce then ends all ranks together: an error on one rank alone would show as closed connections
on the others.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.runtime.distributed import Ranks
from experiments.runtime.entry import NonFiniteError

_NEVER = 2**62
_KINDS = ("loss", "gradient", "model")
_ADVICE = "lower lr, clip the gradient (clip_norm), or set amp=off if mixed precision is on"


class Guard:
    """The first step in which something was NaN or infinite, on this rank."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._first = {
            kind: torch.full((), _NEVER, dtype=torch.int64, device=ranks.device) for kind in _KINDS
        }
        self.is_alarmed = False
        """Whether this rank has read a bad value; the ranks then agree to end."""

    def note(self, kind: str, value: Tensor, step: int) -> None:
        """Take a scalar of optimiser step `step`; the GPU is not waited for."""
        first = self._first[kind]
        is_first = ~torch.isfinite(value) & (first == _NEVER)
        self._first[kind] = first.masked_fill(is_first, step)

    def look(self) -> None:
        """Read what was noted; this waits for the GPU."""
        self.is_alarmed = any(step < _NEVER for step in self._steps().tolist())

    def check(self) -> None:
        """End all ranks if any of them has noted something; all ranks call it.

        NonFiniteError names what was first, with the same words on every rank.
        """
        steps = self._steps()
        if self._ranks.world_size > 1:
            dist.all_reduce(steps, op=dist.ReduceOp.MIN)
        first = int(steps.min())
        if first < _NEVER:
            kind = _KINDS[steps.tolist().index(first)]
            raise NonFiniteError(f"the {kind} became NaN or infinite at step {first}: {_ADVICE}")

    def check_model(self, model: nn.Module, trainable: Collection[str], step: int) -> None:
        """The same, also of the weights and batch statistics after `step`."""
        self.note("model", magnitude(model, trainable), step)
        self.check()

    def _steps(self) -> Tensor:
        return torch.stack([self._first[kind] for kind in _KINDS]).cpu()


@torch.no_grad()
def magnitude(model: nn.Module, names: Collection[str]) -> Tensor:
    """A scalar that is finite exactly where the parameters `names` and all batch statistics are."""
    named = dict(model.named_parameters())
    found: list[Tensor | None] = [named[name].detach() for name in names]
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            found += [module.running_mean, module.running_var]
    weights = [each for each in found if each is not None and each.numel()]
    largest = torch._foreach_norm(weights, float("inf"))
    return torch.stack([each.float() for each in largest]).max() if largest else torch.zeros(())
