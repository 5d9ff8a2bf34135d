"""Token sets in fixed shapes: cells in a new order, and attention between ranges of them.

A grid of N cells has its foreground first, in B rows of N; a set of tokens is the first cells of a
row. So no shape depends on the data, and the host reads no size: which cells belong to a set is a
count on the device. Attention reaches from a range of queries to a range of keys in each row and
skips all else, through flash attention of packed sequences (`torch.nn.attention.varlen`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

OUT_OF_REACH = -1e4
"""A bias at which a key has no weight, and which float16 can hold."""
_LANES = 8  # fused attention kernels want head widths that are multiples of this
_HALF_TYPES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Order:
    """The cells of each row in a new order: its members first, then all others."""

    cells: Tensor
    """The cell that comes to each place, B N."""
    places: Tensor
    """The place to which each cell comes, B N."""
    num_members: Tensor
    """int32 B."""

    def __call__(self, grid_BNC: Tensor) -> Tensor:
        """The cells in the new order, B N C."""
        arranged_BNC: Tensor = _Rearranged.apply(grid_BNC, self.cells, self.places)
        return arranged_BNC


def members_first(is_member_BN: Tensor) -> Order:
    """The order that brings the members of each row to its front, both kinds in their own order."""
    num_cells = is_member_BN.shape[1]
    rank_BN = is_member_BN.cumsum(1)
    every_N = torch.arange(num_cells, device=is_member_BN.device)
    num_members_B = rank_BN[:, -1]
    places_BN = torch.where(is_member_BN, rank_BN - 1, every_N + num_members_B[:, None] - rank_BN)
    cells_BN = torch.empty_like(places_BN).scatter_(1, places_BN, every_N.expand_as(places_BN))
    return Order(cells_BN, places_BN, num_members_B.to(torch.int32))


class _Rearranged(torch.autograd.Function):
    """Rows by index, with the opposite order as gradient: `gather` would add with atomics."""

    @staticmethod
    def forward(ctx: Any, grid_BNC: Tensor, cells_BN: Tensor, places_BN: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(places_BN)
        return _rows(grid_BNC, cells_BN)

    @staticmethod
    def backward(ctx: Any, grad_BNC: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (places_BN,) = ctx.saved_tensors
        return _rows(grad_BNC, places_BN), None, None


def _rows(grid_BNC: Tensor, index_BN: Tensor) -> Tensor:
    batch, num_cells, channels = grid_BNC.shape
    starts_B1 = torch.arange(batch, device=grid_BNC.device)[:, None] * num_cells
    rows = grid_BNC.reshape(batch * num_cells, channels)
    return rows.index_select(0, (index_BN + starts_B1).flatten()).view(grid_BNC.shape)


@dataclass(frozen=True, slots=True)
class Reach:
    """In each row the queries from q_start to q_stop see the keys from k_start to k_stop.

    int32 B each. All other queries see nothing, and their result is 0; so is the gradient of all
    other keys.
    """

    q_start: Tensor
    q_stop: Tensor
    k_start: Tensor
    k_stop: Tensor


def ranged_attention(
    q_BMC: Tensor,
    k_BNC: Tensor,
    v_BNC: Tensor,
    reach: Reach,
    num_heads: int,
    bias_BN: Tensor | None = None,
) -> Tensor:
    """softmax(q k / sqrt(d) + bias) v in each head, within `reach`; gives B M C.

    Half types on a GPU are packed and no product out of reach is computed. Other types take the
    fixed shape with a bias that removes keys: exact too, and as little memory, but more products.
    """
    heads = [x.reshape(*x.shape[:2], num_heads, -1) for x in (q_BMC, k_BNC, v_BNC)]
    if q_BMC.is_cuda and q_BMC.dtype in _HALF_TYPES:
        out_BMHD = _packed(heads, reach, bias_BN)
    else:
        out_BMHD = _fixed(heads, reach, bias_BN)
    return out_BMHD.flatten(2)


def _packed(heads: list[Tensor], reach: Reach, bias_BN: Tensor | None) -> Tensor:
    # Not before torch 2.10; nothing else here needs so new a version.
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = with_bias(heads, None if bias_BN is None else bias_BN[:, :, None])
    cu_q, cu_k = sequences(reach, q.shape[1], k.shape[1])
    batch, width = q.shape[0], heads[0].shape[3]
    # cuDNN would build a plan for each new problem: 156 ms instead of 1.9 where sizes change.
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        out: Any = varlen_attn(
            q.flatten(0, 1),
            k.flatten(0, 1),
            v.flatten(0, 1),
            cu_q,
            cu_k,
            q.shape[1],
            k.shape[1],
            scale=1 / math.sqrt(width),
        )
    out_BMHD: Tensor = out.view(batch, -1, *out.shape[1:])[..., :width]
    return out_BMHD


def sequences(reach: Reach, num_queries: int, num_keys: int) -> tuple[Tensor, Tensor]:
    """`reach` as cumulative lengths of packed sequences, int32 5 B + 1 each.

    Each row becomes five: queries without keys, keys without queries, what sees each other, and
    the same two again. So every row of q, k and v lies in a sequence, and none of the results or
    gradients is left as it was in memory.
    """
    zero = torch.zeros_like(reach.q_start)
    q = (reach.q_start, zero, reach.q_stop - reach.q_start, num_queries - reach.q_stop, zero)
    k = (zero, reach.k_start, reach.k_stop - reach.k_start, zero, num_keys - reach.k_stop)
    return _cumulative(q), _cumulative(k)


def _cumulative(lengths: tuple[Tensor, ...]) -> Tensor:
    total = torch.stack(lengths, dim=1).flatten().cumsum(0, dtype=torch.int32)
    return functional.pad(total, (1, 0))


def _fixed(heads: list[Tensor], reach: Reach, bias_BN: Tensor | None) -> Tensor:
    queries_M = torch.arange(heads[0].shape[1], device=heads[0].device)
    keys_N = torch.arange(heads[1].shape[1], device=heads[0].device)
    sees_BM = _between(queries_M, reach.q_start, reach.q_stop)
    # A query of a row without keys sees nothing; its softmax here is over keys out of reach.
    sees_BM = sees_BM & (reach.k_stop > reach.k_start)[:, None]
    is_seen_BN = _between(keys_N, reach.k_start, reach.k_stop)
    shift_BN = torch.zeros_like(is_seen_BN, dtype=heads[0].dtype) if bias_BN is None else bias_BN
    shift_BN = shift_BN.where(is_seen_BN, OUT_OF_REACH)
    q, k, v = (x.transpose(1, 2) for x in with_bias(heads, shift_BN[:, :, None]))
    width = heads[0].shape[3]
    with fused_attention(q):
        out = functional.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(width))
    return out.transpose(1, 2)[..., :width].where(sees_BM[:, :, None, None], 0)


def _between(places: Tensor, start_B: Tensor, stop_B: Tensor) -> Tensor:
    return (places >= start_B[:, None]) & (places < stop_B[:, None])


def with_bias(heads: Sequence[Tensor], bias: Tensor | None) -> list[Tensor]:
    """q, k and v with a width that is a multiple of 8, and a bias per key as a channel of q k.

    `bias` is broadcast to the keys without their channels. The scale of the product must be
    1 / sqrt(d) for the width d that the heads had.
    """
    q, k, v = heads
    width = q.shape[-1]
    if bias is None:
        return [functional.pad(x, (0, -width % _LANES)) for x in heads]
    extra = _LANES - width % _LANES
    column = bias.to(k.dtype)[..., None].expand(*k.shape[:-1], 1)
    q = functional.pad(functional.pad(q, (0, 1), value=math.sqrt(width)), (0, extra - 1))
    k = functional.pad(torch.cat([k, column], dim=-1), (0, extra - 1))
    return [q, k, functional.pad(v, (0, extra))]


def fused_attention(query: Tensor) -> AbstractContextManager[None]:
    """On a GPU: attention through flash or the memory-efficient kernel, or an error.

    cuDNN's form builds a plan for every new shape, and the plain form keeps all products: 67 GiB
    in float32 at batch 4. On the CPU torch's own choice is right.
    """
    if not query.is_cuda:
        return nullcontext()
    context: AbstractContextManager[None] = sdpa_kernel(
        [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    )
    return context
