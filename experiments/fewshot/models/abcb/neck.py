"""The convolution neck: backbone levels to the C channels of f_q and f_s."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.fewshot.models.base import Features

CellScale = Literal["unit", "none"]
NeckEnd = Literal["linear", "relu"]


class ConvolutionNeck(nn.Module):
    """1x1 convolution, ReLU, 3x3 convolution; shared by query and support.

    With `scale` "unit" a cell has the same length in every level, and the result a mean square of 1
    in every cell: cells then differ in the direction of their features, as for a cosine.
    """

    def __init__(
        self, level_channels: tuple[int, ...], channels: int, scale: CellScale, end: NeckEnd
    ) -> None:
        super().__init__()
        self.scale, self.end = scale, end
        self.join = nn.Conv2d(sum(level_channels), channels, 1)
        self.spread = nn.Conv2d(channels, channels, 3, padding=1)
        for conv in (self.join, self.spread):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(
        self, query: Features, support: Features, is_member_BKhw: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Levels B D h w of the query and B K D h w of the supports to f_q, B C h w, and f_s."""
        f_s: Tensor = self._features(tuple(level.flatten(0, 1) for level in support))
        return self._features(query), f_s.view(*is_member_BKhw.shape[:2], *f_s.shape[1:])

    def _features(self, levels: Features) -> Tensor:
        joined = equal_levels(levels) if self.scale == "unit" else torch.cat(levels, dim=1)
        x = self.spread(functional.relu(self.join(joined)))
        if self.end == "relu":
            x = functional.relu(x)
        return unit_cells(x) * math.sqrt(x.shape[1]) if self.scale == "unit" else x

    def start_faithful(self) -> None:
        """Start so that cells are about as alike after the neck as they were before it.

        The rows of the first convolution come in pairs w and -w of orthogonal directions, so that
        its ReLU loses nothing of w x; the second is the identity.
        """
        channels, inputs = self.join.weight.shape[:2]
        rows = torch.empty((channels + 1) // 2, inputs)
        nn.init.orthogonal_(rows)
        with torch.no_grad():
            self.join.weight.copy_(torch.cat([rows, -rows])[:channels, :, None, None])
            nn.init.dirac_(self.spread.weight)
            for conv in (self.join, self.spread):
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


def equal_levels(levels: Sequence[Tensor]) -> Tensor:
    """Levels ... D h w joined in channels, with cells of one length in each of them."""
    length = math.sqrt(sum(level.shape[-3] for level in levels) / len(levels))
    return torch.cat([unit_cells(level) * length for level in levels], dim=-3)


def unit_cells(features: Tensor) -> Tensor:
    """Features ... C h w with cells of length 1."""
    unit: Tensor = functional.normalize(features, dim=-3)
    return unit
