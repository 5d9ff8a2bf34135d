"""The neck: backbone levels to the C channels of f_q and f_s; the paper does not describe it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

CellScale = Literal["unit", "none"]
NeckEnd = Literal["linear", "relu"]


class Neck(nn.Module):
    """1x1 convolution, ReLU, 3x3 convolution; shared by query and support.

    With `scale` "unit" a cell has the same length in every level, and the result a mean square of 1
    in every cell: cells then differ in the direction of their features, as for a cosine.
    """

    def __init__(
        self, level_channels: tuple[int, ...], channels: int, scale: CellScale, end: NeckEnd
    ) -> None:
        super().__init__()
        self.level_channels = level_channels
        self.scale, self.end = scale, end
        self.join = nn.Conv2d(sum(level_channels), channels, 1)
        self.spread = nn.Conv2d(channels, channels, 3, padding=1)
        for conv in (self.join, self.spread):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")

    def forward(self, levels_BDhw: Tensor) -> Tensor:
        """All levels, joined in channels, to B C h w."""
        if self.scale == "unit":
            levels = torch.split(levels_BDhw, list(self.level_channels), dim=1)
            length = math.sqrt(levels_BDhw.shape[1] / len(levels))
            levels_BDhw = torch.cat([_unit(level) * length for level in levels], dim=1)
        x = self.spread(functional.relu(self.join(levels_BDhw)))
        if self.end == "relu":
            x = functional.relu(x)
        return _unit(x) * math.sqrt(x.shape[1]) if self.scale == "unit" else x

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


def _unit(features_BChw: Tensor) -> Tensor:
    unit: Tensor = functional.normalize(features_BChw, dim=1)
    return unit
