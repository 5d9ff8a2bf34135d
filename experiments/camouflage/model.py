"""From an image to a map of its camouflaged object: a timm encoder and a decoder of experts."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import interpolate

from experiments.camouflage.encoder import Encoder, build_encoder
from experiments.camouflage.experts import SparseExperts
from experiments.camouflage.options import DecoderOptions, Options
from experiments.runtime.activations import checkpoint_blocks, checkpointed

_CHANNELS_A_GROUP = 8


class Maps(NamedTuple):
    """What the model says about a batch."""

    logits: tuple[Tensor, ...]
    """One B1hw tensor a level, the finest first: that is the prediction."""
    balance: Tensor
    """B: mean balance loss of the levels with experts, for each image."""


class Level(nn.Module):
    """One step of the decoder, from a coarser level to a finer one."""

    def __init__(
        self, encoder_channels: int, options: DecoderOptions, *, has_experts: bool
    ) -> None:
        super().__init__()
        channels = options.channels
        self.lateral = nn.Conv2d(encoder_channels, channels, 1)
        # Group norm: unlike batch norm it gives the same numbers for any micro_batch and rank.
        self.fuse = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(max(1, channels // _CHANNELS_A_GROUP), channels),
            nn.GELU(),
        )
        self.experts = _experts(options) if has_experts else None
        self.head = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(
        self, encoded_BCHW: Tensor, coarser_BCHW: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features, logits, and the balance loss of each image where there are experts."""
        features, balance_B = self.lateral(encoded_BCHW), None
        if coarser_BCHW is not None:
            features = features + _resized(coarser_BCHW, features.shape[-2:])
        features = self.fuse(features)
        if self.experts is not None:
            features, balance_B = self.experts(features)
        return features, self.head(features), balance_B


class Decoder(nn.Module):
    """Levels from the coarsest to the finest; each but the finest has experts."""

    def __init__(
        self, encoder_channels: tuple[int, ...], options: DecoderOptions, *, saves_memory: bool
    ) -> None:
        super().__init__()
        self._saves_memory = saves_memory
        self.levels = nn.ModuleList(
            Level(channels, options, has_experts=place > 0)
            for place, channels in enumerate(encoder_channels)
        )

    def forward(self, encoded: tuple[Tensor, ...]) -> Maps:
        """The maps of all levels."""
        features, logits, balances = None, [], []
        for level, encoded_BCHW in reversed(list(zip(self.levels, encoded, strict=True))):
            features, found, balance_B = checkpointed(
                level, encoded_BCHW, features, enabled=self._saves_memory and self.training
            )
            logits.append(found)
            balances += [] if balance_B is None else [balance_B]
        return Maps(tuple(reversed(logits)), sum(balances[1:], balances[0]) / len(balances))


class CamouflageModel(nn.Module):
    """Its parts are `encoder` and `decoder`, as stages name them."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images_B3HW: Tensor) -> Maps:
        """RGB in [0, 255], any size from 32 pixels on."""
        maps: Maps = self.decoder(self.encoder(images_B3HW))
        return maps


def build_model(options: Options, weights: Path | None) -> CamouflageModel:
    """The model before training. UsageError, DataError: see `build_encoder`."""
    options.decoder.check()
    chosen = options.encoder
    encoder = build_encoder(chosen.backbone, weights=weights, from_scratch=chosen.from_scratch)
    saves_memory = options.runtime.checkpoint_activations
    if saves_memory:
        checkpoint_blocks(encoder.features)
    decoder = Decoder(encoder.channels, options.decoder, saves_memory=saves_memory)
    return CamouflageModel(encoder, decoder)


def _experts(options: DecoderOptions) -> SparseExperts:
    return SparseExperts(
        options.channels,
        num_experts=options.num_experts,
        top_k=options.top_k,
        width=options.expert_width,
    )


def _resized(maps_BCHW: Tensor, size: tuple[int, ...]) -> Tensor:
    return interpolate(maps_BCHW, size=size, mode="bilinear", align_corners=False)
