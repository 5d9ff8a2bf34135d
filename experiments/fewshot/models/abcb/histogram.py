"""The differentiable histogram of all pairwise cosine affinities of a token set (part of Eq. 4).

Bin l has its centre at l / (L - 1) and a spire (triangle) of that spacing: an affinity is shared
by the two bins beside it, so that the bins sum to the number of pairs. The sums over all bins above
l, S_l = sum of clamp(affinity * (L - 1) - l, 0, 1), give bin l as S_(l-1) - S_l.

On a GPU the sums of sets in fixed shapes come from one Triton kernel (histogram_kernel.py); the
loop over tiles here is its reference, and what the CPU computes with.
"""

from __future__ import annotations

import os
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


def unit_vectors(values_BMC: Tensor) -> Tensor:
    """The values scaled to length 1, in float32 or better."""
    with torch.autocast(values_BMC.device.type, enabled=False):
        unit_BMC: Tensor = functional.normalize(_at_least_float32(values_BMC), dim=2)
    return unit_BMC


def front_histogram(unit_BMC: Tensor, counts_B: Tensor, num_bins: int) -> Tensor:
    """`affinity_histogram` of the first counts_B of M unit vectors each; float32 or better B L.

    Its shapes do not depend on the sizes, and the host reads none of them.
    """
    with torch.autocast(unit_BMC.device.type, enabled=False):
        above_BL: Tensor = _front_sums(unit_BMC, counts_B, num_bins)
        num_pairs_B1 = (counts_B.to(above_BL.dtype) ** 2)[:, None]
        edges_BL = torch.cat([num_pairs_B1, above_BL, torch.zeros_like(num_pairs_B1)], dim=1)
        histogram_BL = -edges_BL.diff(dim=1) / num_pairs_B1.clamp(min=1)
    # The kernel sums in float64, which no layer behind it needs.
    return histogram_BL if unit_BMC.dtype == torch.float64 else histogram_BL.float()


class _SumsAbove(torch.autograd.Function):
    """S_0 ... S_(L-2) of unit vectors, tile by tile; B M C to B (L - 1)."""

    @staticmethod
    def forward(ctx: Any, unit_BMC: Tensor, num_bins: int) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(unit_BMC)
        ctx.num_bins = num_bins
        return _tiled_sums(unit_BMC, num_bins).to(unit_BMC.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BL: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (unit_BMC,) = ctx.saved_tensors
        return _tiled_gradient(unit_BMC, 2 * grad_BL * (ctx.num_bins - 1)), None


# Operators of their own, so that torch.compile takes them as they are, and tensors without memory
# (FakeTensorMode) go through them.
@torch.library.custom_op("papergrid::front_sums", mutates_args=())
def _front_sums(unit_BMC: Tensor, counts_B: Tensor, num_bins: int) -> Tensor:
    """S_0 ... S_(L-2) of the first counts_B vectors, float64."""
    if _has_kernel(unit_BMC):
        from experiments.fewshot.models.abcb import histogram_kernel

        return histogram_kernel.sums_above(unit_BMC, counts_B, num_bins)
    return _tiled_sums(_front(unit_BMC, counts_B), num_bins)


@torch.library.custom_op("papergrid::front_gradient", mutates_args=())
def _front_gradient(unit_BMC: Tensor, counts_B: Tensor, slopes_BL: Tensor) -> Tensor:
    """The gradient of the first counts_B vectors, 0 for the others, in the vectors' type."""
    if _has_kernel(unit_BMC):
        from experiments.fewshot.models.abcb import histogram_kernel

        return histogram_kernel.gradient(unit_BMC, counts_B, slopes_BL).to(unit_BMC.dtype)
    front_BMC = _front(unit_BMC, counts_B).contiguous()
    return _tiled_gradient(front_BMC, slopes_BL.to(unit_BMC.dtype))


@_front_sums.register_fake
def _(unit_BMC: Tensor, counts_B: Tensor, num_bins: int) -> Tensor:  # noqa: ARG001
    return unit_BMC.new_empty(unit_BMC.shape[0], num_bins - 1, dtype=torch.float64)


@_front_gradient.register_fake
def _(unit_BMC: Tensor, counts_B: Tensor, slopes_BL: Tensor) -> Tensor:  # noqa: ARG001
    return unit_BMC.new_empty(unit_BMC.shape)


def _keep_for_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401, ARG001
    unit_BMC, counts_B, num_bins = inputs
    ctx.save_for_backward(unit_BMC, counts_B)
    ctx.num_bins = num_bins


def _front_backward(ctx: Any, grad_BL: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
    unit_BMC, counts_B = ctx.saved_tensors
    slopes_BL = 2 * grad_BL * (ctx.num_bins - 1)
    return _front_gradient(unit_BMC, counts_B, slopes_BL), None, None


_front_sums.register_autograd(_front_backward, setup_context=_keep_for_gradient)


def _has_kernel(unit_BMC: Tensor) -> bool:
    return unit_BMC.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"


def _front(unit_BMC: Tensor, counts_B: Tensor) -> Tensor:
    places_M = torch.arange(unit_BMC.shape[1], device=unit_BMC.device)
    return unit_BMC * (places_M < counts_B[:, None])[:, :, None]


def _tiled_sums(unit_BMC: Tensor, num_bins: int) -> Tensor:
    """S_0 ... S_(L-2) in float64, B (L - 1)."""
    sums = unit_BMC.new_zeros(unit_BMC.shape[0], num_bins - 1, dtype=torch.float64)
    for start, stop in _tiles(unit_BMC):
        places = _places(unit_BMC, start, stop, num_bins)
        for level in range(num_bins - 1):
            part = (places - level).clamp_(0, 1)
            block = part[:, :, : stop - start].sum((1, 2))
            # Below the diagonal lies the mirror image of what is right of the block.
            sums[:, level] += 2 * part.sum((1, 2)) - block
    return sums


def _tiled_gradient(unit_BMC: Tensor, slopes_BL: Tensor) -> Tensor:
    """The gradient of the sums, weighted by slopes between centres, B M C."""
    grad_BMC = torch.zeros_like(unit_BMC)
    for start, stop in _tiles(unit_BMC):
        places = _places(unit_BMC, start, stop, slopes_BL.shape[1] + 1)
        # Clamped as integers: a NaN, too, must reach the loss instead of an index error here.
        bins = places.long().clamp_(0, slopes_BL.shape[1] - 1)
        slope = slopes_BL.gather(1, bins.flatten(1)).view_as(places)
        slope.masked_fill_(places == 0, 0)
        grad_BMC[:, start:stop] += slope @ unit_BMC[:, start:]
        right = slope[:, :, stop - start :]
        grad_BMC[:, stop:] += right.transpose(1, 2) @ unit_BMC[:, start:stop]
    return grad_BMC


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
