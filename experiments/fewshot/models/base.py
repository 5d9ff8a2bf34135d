"""What every few-shot method shares: its output, and the path from images to features to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.backbones.build import Backbone, Rgb

Features = tuple[Tensor, ...]
"""One B C h w tensor per backbone level."""


@dataclass(frozen=True, slots=True)
class Output:
    """Logits of background (channel 0) and foreground (channel 1)."""

    logits: Tensor
    """B 2 h w, at feature or input resolution."""
    auxiliary: tuple[tuple[Tensor, float], ...] = ()
    """Further logits of the same layout with their weights in the loss."""
    earlier: tuple[Tensor, ...] = ()
    """The predictions before the last one, of a method that iterates; of the same layout."""


class FewShotModel(nn.Module, ABC):
    """A backbone and a method that segments a query image from K supports with masks."""

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
        """Backbone features of images, finer levels averaged to the resolution of the deepest.

        Those of a frozen backbone may be computed once and kept.
        """
        features: Features = self.encoder(images_N3HW)
        size = features[-1].shape[-2], features[-1].shape[-1]
        return tuple(
            level if level.shape[-2:] == size else functional.adaptive_avg_pool2d(level, size)
            for level in features
        )

    def forward(
        self, query_B3HW: Tensor, support_BK3HW: Tensor, support_mask_BKHW: Tensor
    ) -> Output:
        """Segment the queries: RGB in [0, 255], masks of 0, 1 and 255 = ignored, equal H and W."""
        batch, shots = support_mask_BKHW.shape[:2]
        images = torch.cat([query_B3HW, support_BK3HW.flatten(0, 1)])
        features = self.encode(images)
        query = tuple(level[:batch] for level in features)
        support = tuple(level[batch:].reshape(batch, shots, *level.shape[1:]) for level in features)
        return self.segment(query_B3HW, query, support, support_mask_BKHW)

    @abstractmethod
    def segment(
        self, query_B3HW: Tensor, query: Features, support: Features, support_mask_BKHW: Tensor
    ) -> Output:
        """Segment from features: `query` levels are B C h w, `support` levels B K C h w."""


def resize_logits(logits_B2hw: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """Bilinear resize to H W in float32."""
    return functional.interpolate(
        logits_B2hw.float(), size=size_HW, mode="bilinear", align_corners=False
    )


def predict(logits_B2hw: Tensor, size_HW: tuple[int, int]) -> Tensor:
    """Foreground as a bool B H W at the wanted size; a tie is background."""
    logits = resize_logits(logits_B2hw, size_HW)
    return logits[:, 1] > logits[:, 0]


def area_fractions(mask_NHW: Tensor, label: int, size_hw: tuple[int, int]) -> Tensor:
    """Fraction of each feature cell that carries `label`: float32 N h w in [0, 1].

    An object of any size keeps a weight above 0; 255 counts for no label.
    """
    return functional.adaptive_avg_pool2d((mask_NHW == label).float(), size_hw)
