"""The neck: backbone levels to the C channels of f_q and f_s; the paper does not describe it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

CellScale = Literal["unit", "none"]
NeckEnd = Literal["linear", "relu"]


class Neck(nn.Module):
    """1x1 convolution, ReLU, 3x3 convolution; shared by query and support.

    With `scale` "unit" every cell of each level, and every cell of the result, is brought to a mean
    square of 1: what tells cells apart is then the direction of their features, as for a cosine.
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
            levels_BDhw = torch.cat([_unit(level) for level in levels], dim=1)
        x = self.spread(functional.relu(self.join(levels_BDhw)))
        if self.end == "relu":
            x = functional.relu(x)
        return _unit(x) if self.scale == "unit" else x

    def start_local(self) -> None:
        """Let the 3x3 convolution start as the identity: a cell says at first what it holds."""
        nn.init.dirac_(self.spread.weight)
        nn.init.zeros_(self.spread.bias)  # type: ignore[arg-type]


def _unit(features_BChw: Tensor) -> Tensor:
    unit: Tensor = functional.normalize(features_BChw, dim=1) * features_BChw.shape[1] ** 0.5
    return unit
