"""The differentiable histogram of all pairwise cosine affinities of a token set (part of Eq. 4).

Bin l has its centre at l / (L - 1) and a spire (triangle) of that spacing: an affinity is shared
by the two bins beside it, so that the bins sum to the number of pairs. The sums over all bins above
l, S_l = sum of clamp(affinity * (L - 1) - l, 0, 1), give bin l as S_(l-1) - S_l.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from experiments.fewshot.models.abcb.tokens import Tokens

TILE_ELEMENTS = 1 << 18
"""Affinities that exist at one time, few enough for a CPU's cache; the M x M matrix never does."""
GPU_TILE_ELEMENTS = 1 << 25
"""On a GPU: a tile is some 80 kernels, so a few large ones; a tile of float32 is 128 MiB."""


def affinity_histogram(tokens: Tokens, num_bins: int) -> Tensor:
    """Normalised histogram of the cosine affinities, clamped to [0, 1], of all ordered pairs.

    Gives B L that sums to 1 for every set but an empty one, whose histogram is 0.
    """
    with torch.autocast(tokens.values.device.type, enabled=False):
        unit_BMC = functional.normalize(_at_least_float32(tokens.values), dim=2)
        # A padded token becomes 0, its affinities are 0, and 0 adds to no S_l.
        unit_BMC = unit_BMC * tokens.is_real[:, :, None]
        above_BL: Tensor = _SumsAbove.apply(unit_BMC, num_bins)
        num_pairs_B1 = (tokens.count() ** 2)[:, None].to(above_BL.dtype)
        edges_BL = torch.cat([num_pairs_B1, above_BL, torch.zeros_like(num_pairs_B1)], dim=1)
        return -edges_BL.diff(dim=1) / num_pairs_B1.clamp(min=1)


class _SumsAbove(torch.autograd.Function):
    """S_0 ... S_(L-2) of unit vectors, tile by tile; B M C to B (L - 1)."""

    @staticmethod
    def forward(ctx: Any, unit_BMC: Tensor, num_bins: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(unit_BMC)
        ctx.num_bins = num_bins
        sums = unit_BMC.new_zeros(unit_BMC.shape[0], num_bins - 1, dtype=torch.float64)
        for start, stop in _tiles(unit_BMC):
            places = _places(unit_BMC, start, stop, num_bins)
            for level in range(num_bins - 1):
                part = (places - level).clamp_(0, 1)
                block = part[:, :, : stop - start].sum((1, 2))
                # Below the diagonal lies the mirror image of what is right of the block.
                sums[:, level] += 2 * part.sum((1, 2)) - block
        return sums.to(unit_BMC.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BL: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (unit_BMC,) = ctx.saved_tensors
        num_bins: int = ctx.num_bins
        slopes_BL = 2 * grad_BL * (num_bins - 1)
        grad_BMC = torch.zeros_like(unit_BMC)
        for start, stop in _tiles(unit_BMC):
            places = _places(unit_BMC, start, stop, num_bins)
            # Clamped as integers: a NaN, too, must reach the loss instead of an index error here.
            bins = places.long().clamp_(0, num_bins - 2)
            slope = slopes_BL.gather(1, bins.flatten(1)).view_as(places)
            slope.masked_fill_(places == 0, 0)
            grad_BMC[:, start:stop] += slope @ unit_BMC[:, start:]
            right = slope[:, :, stop - start :]
            grad_BMC[:, stop:] += right.transpose(1, 2) @ unit_BMC[:, start:stop]
        return grad_BMC, None


def _tiles(unit_BMC: Tensor) -> Iterator[tuple[int, int]]:
    batch, length, _ = unit_BMC.shape
    elements = TILE_ELEMENTS if unit_BMC.device.type == "cpu" else GPU_TILE_ELEMENTS
    rows = max(1, elements // (batch * length))
    for start in range(0, length, rows):
        yield start, min(start + rows, length)


def _places(unit_BMC: Tensor, start: int, stop: int, num_bins: int) -> Tensor:
    """Affinities of rows start:stop with columns start: on the scale of bins, 0 to L - 1."""
    affinity = unit_BMC[:, start:stop] @ unit_BMC[:, start:].transpose(1, 2)
    return affinity.clamp_(0, 1).mul_(num_bins - 1)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
