"""The prior of the correlation neck: how like a query cell is to any foreground of the support."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_TILE = 2**22
_TILE_ON_GPU = 2**27
"""Most similarities that exist at once: all of one 473 px episode are 13 million."""


def prior_similarity(query_BDhw: Tensor, support_BKDhw: Tensor, is_member_BKhw: Tensor) -> Tensor:
    """The greatest cosine of each query cell with a foreground cell of a support, B 1 h w.

    At least 0; the mean over the shots that have foreground, 0 where none has.
    """
    query_BND = _unit_cells(query_BDhw)
    is_member_BKN = is_member_BKhw.flatten(2)
    is_shown_BK = is_member_BKN.any(2)
    greatest = _dense if query_BDhw.is_cuda else _of_members
    shots = [
        greatest(query_BND, _unit_cells(support_BKDhw[:, shot]), is_member_BKN[:, shot])
        for shot in range(support_BKDhw.shape[1])
    ]
    total_BN = torch.stack(shots).clamp(min=0).sum(0)
    mean_BN = total_BN / is_shown_BK.sum(1, keepdim=True).clamp(min=1)
    return mean_BN.view(query_BDhw.shape[0], 1, *query_BDhw.shape[-2:])


def _of_members(query_BND: Tensor, support_BND: Tensor, is_member_BN: Tensor) -> Tensor:
    """Against the foreground alone, a fifth of the products: its size depends on the episode."""
    rows = []
    for query_ND, support_ND, is_member_N in zip(query_BND, support_BND, is_member_BN, strict=True):
        member_MD = support_ND[is_member_N]
        rows.append(_greatest(query_ND[None], member_MD[None], None)[0])
    return torch.stack(rows)


def _dense(query_BND: Tensor, support_BND: Tensor, is_member_BN: Tensor) -> Tensor:
    """Against every cell, of which those without foreground count as 0: one shape for all."""
    return _greatest(query_BND, support_BND, is_member_BN)


def _greatest(query_BND: Tensor, support_BMD: Tensor, is_member_BM: Tensor | None) -> Tensor:
    """In tiles of query cells, B N."""
    num_keys = support_BMD.shape[0] * support_BMD.shape[1]
    if num_keys == 0:
        return query_BND.sum(2) * 0  # not a constant: a trained backbone waits for its gradient
    tile = _TILE_ON_GPU if query_BND.is_cuda else _TILE
    keys_BDM = support_BMD.transpose(1, 2)
    parts = []
    for part_BnD in torch.split(query_BND, max(1, tile // num_keys), dim=1):
        cosine_BnM = part_BnD @ keys_BDM
        if is_member_BM is not None:
            cosine_BnM = cosine_BnM * is_member_BM[:, None]
        parts.append(cosine_BnM.amax(2))
    return torch.cat(parts, dim=1)


def _unit_cells(features_BDhw: Tensor) -> Tensor:
    """B D h w as B N D of length 1."""
    return functional.normalize(features_BDhw.flatten(2), dim=1).transpose(1, 2)
