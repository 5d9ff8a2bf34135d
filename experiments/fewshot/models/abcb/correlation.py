"""The correlation neck: what the paper names, HSNet's levels and HDMNet's correlation module.

How it meets C channels is an inference: f_s is a projection of the supports' features, f_q the same
projection of the query's plus the fused features of the matching (docs/abcb.md).

Shapes: B episodes, K shots, h w cells, C channels of f_q and f_s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.fewshot.models.abcb.matching import WIDTH, HierarchicalMatching
from experiments.fewshot.models.abcb.neck import CellScale, equal_levels, unit_cells
from experiments.fewshot.models.abcb.prior import prior_similarity
from experiments.fewshot.models.base import Features

REDUCED = 256
_PRIOR_GAIN = 10.0


class CorrelationNeck(nn.Module):
    """Fuses a query with its supports under their masks.

    `joined` and `compared` are places in the backbone's levels: those whose channels are joined to
    features, and those whose cells are compared for the priors.
    """

    def __init__(
        self,
        level_channels: tuple[int, ...],
        channels: int,
        scale: CellScale,
        *,
        joined: Sequence[int],
        compared: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        self.joined, self.compared = tuple(joined), tuple(compared)
        self.scale, self.dropout = scale, dropout
        inputs = sum(level_channels[place] for place in joined)
        self.reduce_query = nn.Conv2d(inputs, REDUCED, 1, bias=False)
        self.reduce_support = nn.Conv2d(inputs, REDUCED, 1, bias=False)
        self.merge_query = nn.Conv2d(2 * REDUCED + len(compared), WIDTH, 1, bias=False)
        self.merge_support = nn.Conv2d(2 * REDUCED, WIDTH, 1, bias=False)
        self.matching = HierarchicalMatching(len(compared))
        self.project = nn.Conv2d(REDUCED, channels, 1)
        self.fuse = nn.Conv2d(WIDTH, channels, 1)
        for conv in self.children():
            if isinstance(conv, nn.Conv2d):
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(
        self, query: Features, support: Features, is_member_BKhw: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Levels B D h w of the query and B K D h w of the supports to f_q, B C h w, and f_s."""
        kept_B1R11 = self._kept_channels(query[0])
        of_query = functional.relu(self.reduce_query(self._join(query))) * kept_B1R11[:, 0]
        of_support = self._per_shot(self.reduce_support, self._join(support))
        of_support = functional.relu(of_support) * kept_B1R11
        prior_BPhw = self._priors(query, support, is_member_BKhw)
        fused = self._match(of_query, of_support, prior_BPhw, is_member_BKhw)
        f_q = self.project(of_query) + self.fuse(fused)
        f_s = self._per_shot(self.project, of_support)
        return self._scaled(f_q), self._scaled(f_s)

    def _match(
        self, query: Tensor, support_BKRhw: Tensor, prior_BPhw: Tensor, is_member_BKhw: Tensor
    ) -> Tensor:
        means_BKR11 = _foreground_means(support_BKRhw, is_member_BKhw)
        is_shown_BK = is_member_BKhw.flatten(2).any(2)
        mean_BR11 = means_BKR11.sum(1) / is_shown_BK.sum(1).clamp(min=1).view(-1, 1, 1, 1)
        clues = [query, mean_BR11.expand_as(query), _PRIOR_GAIN * prior_BPhw.to(query.dtype)]
        merged = functional.relu(self.merge_query(torch.cat(clues, dim=1)))
        of_shots = torch.cat([support_BKRhw, means_BKR11.expand_as(support_BKRhw)], dim=2)
        merged_support = functional.relu(self._per_shot(self.merge_support, of_shots))
        matched: Tensor = self.matching(merged, merged_support, prior_BPhw, is_member_BKhw)
        return matched

    def start_faithful(self) -> None:
        """Start so that cells of query and support are about as alike as they were before.

        As in the convolution neck: pairs of rows w and -w, so that the ReLU loses nothing of w x.
        Query and support start with the same weights, the fused features at 0.
        """
        inputs = self.reduce_query.weight.shape[1]
        rows = torch.empty(REDUCED // 2, inputs)
        nn.init.orthogonal_(rows)
        with torch.no_grad():
            for conv in (self.reduce_query, self.reduce_support):
                conv.weight.copy_(torch.cat([rows, -rows])[:, :, None, None])
            nn.init.orthogonal_(self.project.weight)
            for parameter in (self.project.bias, self.fuse.weight, self.fuse.bias):
                assert parameter is not None
                nn.init.zeros_(parameter)

    def _join(self, levels: Features) -> Tensor:
        """The levels that are joined, in channels, the third dimension from the end."""
        chosen = [levels[place] for place in self.joined]
        return equal_levels(chosen) if self.scale == "unit" else torch.cat(chosen, dim=-3)

    def _priors(self, query: Features, support: Features, is_member_BKhw: Tensor) -> Tensor:
        priors = [
            prior_similarity(query[place], support[place], is_member_BKhw)
            for place in self.compared
        ]
        return torch.cat(priors, dim=1)

    def _kept_channels(self, like_BDhw: Tensor) -> Tensor:
        """Dropout of whole channels, B 1 R 1 1: the same in a query and its supports.

        Drawn apart, as in HDMNet, it would make their cells less alike in training than in a test.
        """
        kept = like_BDhw.new_ones(like_BDhw.shape[0], 1, REDUCED, 1, 1)
        return functional.dropout(kept, self.dropout, self.training)

    def _scaled(self, features: Tensor) -> Tensor:
        """Cells of mean square 1 with scale "unit"."""
        if self.scale == "none":
            return features
        return unit_cells(features) * math.sqrt(features.shape[-3])

    @staticmethod
    def _per_shot(layer: nn.Module, support_BKDhw: Tensor) -> Tensor:
        flat: Tensor = layer(support_BKDhw.flatten(0, 1))
        return flat.view(*support_BKDhw.shape[:2], *flat.shape[1:])


def _foreground_means(features_BKRhw: Tensor, is_member_BKhw: Tensor) -> Tensor:
    """Mean of the foreground cells of each shot, B K R 1 1; 0 where it has none."""
    weight_BKhw = is_member_BKhw.to(features_BKRhw.dtype)
    total_BKR = torch.einsum("bkrhw,bkhw->bkr", features_BKRhw, weight_BKhw)
    count_BK1 = is_member_BKhw.flatten(2).sum(2)[:, :, None].clamp(min=1)
    return (total_BKR / count_BK1)[..., None, None]
