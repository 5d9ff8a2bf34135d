"""Token sets of unequal size in one batch, padded and marked, never cut.

They are padded to the largest of the batch, or, in fixed shapes, to all the cells there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.backbones.cells import CellGrid
from experiments.fewshot.models.abcb.packed import members_first
from experiments.fewshot.models.base import area_fractions


@dataclass(frozen=True, slots=True)
class Tokens:
    """One set of feature vectors per episode."""

    values: Tensor
    """B M C."""
    is_real: Tensor
    """Bool B M; False marks padding, whose values mean nothing."""

    def mean(self) -> Tensor:
        """Mean of each set, B C; 0 for an empty one."""
        total_BC = (self.values * self.is_real[:, :, None]).sum(1)
        return total_BC / self.count().clamp(min=1)[:, None]

    def count(self) -> Tensor:
        """Sizes of the sets, int32 B."""
        return self.is_real.sum(1, dtype=torch.int32)

    def replaced(self, values_BMC: Tensor) -> Tokens:
        """The same sets with other values."""
        return Tokens(values_BMC, self.is_real)


def pack_order(is_member_BN: Tensor) -> tuple[Tensor, Tensor]:
    """Indices B M that bring the members of each row to its front, in order; and which are real.

    M is the largest row's count, at least 1.
    """
    counts_B = is_member_BN.sum(1)
    length = max(1, int(counts_B.max()))
    order_BN = is_member_BN.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    places_M = torch.arange(length, device=is_member_BN.device)
    return order_BN[:, :length], places_M < counts_B[:, None]


def take(grid_BNC: Tensor, order_BM: Tensor) -> Tensor:
    """The cells named by `order_BM`: B M C."""
    return grid_BNC.gather(1, order_BM[:, :, None].expand(-1, -1, grid_BNC.shape[2]))


def take_heads(grid_BHND: Tensor, order_BM: Tensor) -> Tensor:
    """The cells named by `order_BM`, in every attention head: B H M D."""
    _, num_heads, _, width = grid_BHND.shape
    return grid_BHND.gather(2, order_BM[:, None, :, None].expand(-1, num_heads, -1, width))


def pack(grid_BNC: Tensor, is_member_BN: Tensor) -> Tokens:
    """The member cells of each row as a token set."""
    order_BM, is_real_BM = pack_order(is_member_BN)
    return Tokens(take(grid_BNC, order_BM), is_real_BM)


def pack_in_place(grid_BNC: Tensor, is_member_BN: Tensor) -> Tokens:
    """`pack` in a shape that does not depend on the sizes: all N cells, the members first."""
    order = members_first(is_member_BN)
    places_N = torch.arange(is_member_BN.shape[1], device=is_member_BN.device)
    return Tokens(order(grid_BNC), places_N < order.num_members[:, None])


def support_cells(mask_BKHW: Tensor, grid: CellGrid, threshold: float) -> Tensor:
    """Foreground cells of the supports: bool B (K h w).

    A cell belongs to it from `threshold` of its area on; where no cell of a shot reaches that, its
    fullest cells do, so that only a shot without any foreground has none.
    """
    area_Nhw = area_fractions(mask_BKHW.flatten(0, 1), 1, grid)
    fullest_N11 = area_Nhw.amax((1, 2), keepdim=True)
    is_member_Nhw = (area_Nhw > 0) & (area_Nhw >= fullest_N11.clamp(max=threshold))
    return is_member_Nhw.view(mask_BKHW.shape[0], -1)
