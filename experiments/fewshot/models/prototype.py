"""Method `prototype`: masked average pooling, cosine similarity and a small learned head.

The baseline of the field: the supports' foreground and background are each averaged into one
vector per backbone level and the query's pixels are compared with both. The untrained model is
that comparison; training adds what a few convolutions read from the similarities beside the
projected features. Nothing in it is tied to the training classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.backbones.build import Backbone
from experiments.backbones.cells import CellGrid
from experiments.fewshot.models.base import Features, FewShotModel, Output, area_fractions
from experiments.fewshot.options import PrototypeOptions

_FOREGROUND, _BACKGROUND = 1, 0


class Prototype(FewShotModel):
    """The training-free prototype classifier plus a learned correction, which starts at 0."""

    def __init__(self, backbone: Backbone, options: PrototypeOptions) -> None:
        super().__init__(backbone)
        width, num_levels = options.channels, len(backbone.out_channels)
        self.scale = nn.Parameter(torch.full((num_levels, 1, 1), options.similarity_scale))
        self.project = nn.Conv2d(sum(backbone.out_channels), width, 1)
        self.head = nn.Sequential(
            nn.Conv2d(2 * width + 2 * num_levels, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2, 1),
        )
        self._initialise()

    def _initialise(self) -> None:
        convs = [m for m in self.head if isinstance(m, nn.Conv2d)]
        for conv in (self.project, *convs):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        nn.init.zeros_(convs[-1].weight)

    def segment(
        self,
        query_B3HW: Tensor,
        query: Features,
        support: Features,
        support_mask_BKHW: Tensor,
    ) -> Output:
        """Logits at feature resolution. Without any support foreground its prototype is 0."""
        query = tuple(_unit_scale(level, 1) for level in query)
        support = tuple(_unit_scale(level, 2) for level in support)
        grid = self.grid(query_B3HW)
        foregrounds, backgrounds = (
            [pool_shots(level, support_mask_BKHW, label, grid) for level in support]
            for label in (_FOREGROUND, _BACKGROUND)
        )
        to_foreground_BLhw = self.scale * _similarities(query, foregrounds)
        to_background_BLhw = self.scale * _similarities(query, backgrounds)
        projected = self.project(torch.cat(query, dim=1))
        prototype = self.project(torch.cat(foregrounds, dim=1)[:, :, None, None])
        clues = [projected, prototype.expand_as(projected), to_foreground_BLhw, to_background_BLhw]
        untrained_B2hw = torch.stack(
            [to_background_BLhw.mean(1), to_foreground_BLhw.mean(1)], dim=1
        )
        return Output(untrained_B2hw + self.head(torch.cat(clues, dim=1)), grid)


def pool_shots(features_BKChw: Tensor, mask_BKHW: Tensor, label: int, grid: CellGrid) -> Tensor:
    """Masked average pooling: the mean, over the shots that show `label`, of their mean features.

    Returns B C. Cells count by the fraction of their pixels with `label`; 255 counts nowhere.
    Where no shot shows it the result is 0.
    """
    weights_BKhw = area_fractions(mask_BKHW.flatten(0, 1), label, grid)
    weights_BKhw = weights_BKhw.view(*mask_BKHW.shape[:2], *grid.size_hw)
    weights_BKhw = weights_BKhw.to(features_BKChw.dtype)
    areas_BK = weights_BKhw.sum((2, 3))
    sums_BKC = torch.einsum("bkchw,bkhw->bkc", features_BKChw, weights_BKhw)
    is_shown_BK = areas_BK > 0
    means_BKC = sums_BKC / areas_BK.where(is_shown_BK, 1.0)[:, :, None]
    prototypes_BC: Tensor = means_BKC.sum(1) / is_shown_BK.sum(1, keepdim=True).clamp(min=1)
    return prototypes_BC


def _similarities(features: Features, vectors_BC: list[Tensor]) -> Tensor:
    """Cosine similarity of every pixel with its level's vector: B L h w."""
    maps = [
        functional.cosine_similarity(level, vector_BC[:, :, None, None], dim=1)
        for level, vector_BC in zip(features, vectors_BC, strict=True)
    ]
    return torch.stack(maps, dim=1)


def _unit_scale(features: Tensor, dim: int) -> Tensor:
    """Scale every pixel's features to a mean square of 1: backbones differ in scale."""
    unit: Tensor = functional.normalize(features, dim=dim) * features.shape[dim] ** 0.5
    return unit
