"""What every few-shot method shares: its output, and the path from images to features to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.backbones.build import Backbone, Rgb
from experiments.backbones.cells import CellGrid, cells_to_pixels, pixels_to_cells

Features = tuple[Tensor, ...]
"""One B C h w tensor per backbone level."""


@dataclass(frozen=True, slots=True)
class Output:
    """Logits of background (channel 0) and foreground (channel 1)."""

    logits: Tensor
    """B 2 h w."""
    grid: CellGrid
    """Where the cells h w of all logits lie in the query."""
    auxiliary: tuple[tuple[Tensor, float], ...] = ()
    """Further logits of the same layout with their weights in the loss."""
    earlier: tuple[Tensor, ...] = ()
    """The predictions before the last one, of a method that iterates; of the same layout."""


class FewShotModel(nn.Module, ABC):
    """A backbone and a method that segments a query image from K supports with masks."""

    masks_supports = False
    """Whether the backbone sees of a support its object alone: features then depend on the mask."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self._constant: tuple[nn.Module, ...] = ()

    @property
    def encoder(self) -> nn.Module:
        """What computes features: the backbone, or the constant that stands for it."""
        return self._constant[0] if self._constant else self.backbone

    def keep_constant(self, constant: nn.Module) -> None:
        """Let `constant` compute what the frozen backbone does; it is no part of the state."""
        self._constant = (constant,)

    @property
    def mean_rgb(self) -> Rgb:
        """The colour, in [0, 255], that is 0 after normalisation: for padding images."""
        return self.backbone.mean

    def encode(self, images_N3HW: Tensor) -> Features:
        """Backbone features of images, finer levels averaged to the cells of the deepest.

        Those of a frozen backbone may be computed once and kept.
        """
        features: Features = self.encoder(images_N3HW)
        size_hw = images_N3HW.shape[-2], images_N3HW.shape[-1]
        deepest = self.backbone.grid(size_hw)
        grids = [self.backbone.grid(size_hw, level) for level in self.backbone.levels]
        return tuple(
            level if grid == deepest else pixels_to_cells(level, deepest.within(grid))
            for level, grid in zip(features, grids, strict=True)
        )

    def grid(self, images_N3HW: Tensor) -> CellGrid:
        """Where the cells of `encode` lie in these images."""
        return self.backbone.grid((images_N3HW.shape[-2], images_N3HW.shape[-1]))

    def shown_supports(self, support_BK3HW: Tensor, mask_BKHW: Tensor) -> Tensor:
        """The supports as the backbone sees them; what is hidden is 0 once it is normalised."""
        if not self.masks_supports:
            return support_BK3HW
        mean_311 = support_BK3HW.new_tensor(self.mean_rgb).view(3, 1, 1)
        return torch.where((mask_BKHW == 1)[:, :, None], support_BK3HW, mean_311)

    def forward(
        self, query_B3HW: Tensor, support_BK3HW: Tensor, support_mask_BKHW: Tensor
    ) -> Output:
        """Segment the queries: RGB in [0, 255], masks of 0, 1 and 255 = ignored, equal H and W."""
        batch, shots = support_mask_BKHW.shape[:2]
        shown_BK3HW = self.shown_supports(support_BK3HW, support_mask_BKHW)
        images = torch.cat([query_B3HW, shown_BK3HW.flatten(0, 1)])
        features = self.encode(images)
        query = tuple(level[:batch] for level in features)
        support = tuple(level[batch:].reshape(batch, shots, *level.shape[1:]) for level in features)
        return self.segment(query_B3HW, query, support, support_mask_BKHW)

    @abstractmethod
    def segment(
        self, query_B3HW: Tensor, query: Features, support: Features, support_mask_BKHW: Tensor
    ) -> Output:
        """Segment from features: `query` levels are B C h w, `support` levels B K C h w."""


def resize_logits(logits_B2hw: Tensor, grid: CellGrid) -> Tensor:
    """Bilinear, from the cells to the pixels of the image, in float32."""
    return cells_to_pixels(logits_B2hw, grid)


def predict(logits_B2hw: Tensor, grid: CellGrid) -> Tensor:
    """Foreground as a bool B H W at the image's size; a tie is background."""
    logits = resize_logits(logits_B2hw, grid)
    return logits[:, 1] > logits[:, 0]


def area_fractions(mask_NHW: Tensor, label: int, grid: CellGrid) -> Tensor:
    """Fraction of each feature cell that carries `label`: float32 N h w in [0, 1].

    An object of any size keeps a weight above 0; 255 counts for no label.
    """
    is_label_N1HW = (mask_NHW == label).float()[:, None]
    return pixels_to_cells(is_label_N1HW, grid)[:, 0]
