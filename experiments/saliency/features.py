"""Frozen features of an image: a backbone that experiments share, or any of timm's by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self, cast

import torch
from torch import Tensor, nn

from experiments.backbones.build import BACKBONES, build_backbone
from experiments.backbones.weight_files import WeightSource
from experiments.backbones.weights import load_strictly, read_weights
from merge.errors import DataError, UsageError

_LEVELS = (2, 3, 4)
"""Of strides 8, 16 and 32."""
_STRIDES = (8, 16, 32)


class Features(Protocol):
    """What a readout needs of a backbone: RGB of 0 to 255 in, levels out, the finest first."""

    out_channels: tuple[int, ...]
    weights_id: str

    def __call__(self, image_B3HW: Tensor) -> tuple[Tensor, ...]: ...

    def state_dict(self, *, prefix: str = "") -> dict[str, Tensor]: ...


class TimmFeatures(nn.Module):
    """Levels of strides 8, 16 and 32 of a timm model, frozen; it normalises its own input."""

    _mean: Tensor
    _std: Tensor

    def __init__(self, network: nn.Module, weights_id: str) -> None:
        super().__init__()
        info = cast("list[dict[str, int]]", network.feature_info)
        by_stride = {each["reduction"]: place for place, each in enumerate(info)}
        if not set(_STRIDES) <= by_stride.keys():
            raise UsageError(
                f"the backbone has features of strides {sorted(by_stride)}, and the readout needs "
                f"{list(_STRIDES)}: choose another one"
            )
        self.places = [by_stride[stride] for stride in _STRIDES]
        self.out_channels = tuple(info[place]["num_chs"] for place in self.places)
        self.weights_id = weights_id
        self.network = network.requires_grad_(False).eval()
        config = cast("dict[str, tuple[float, ...]]", network.default_cfg)
        for name, values in (("_mean", config["mean"]), ("_std", config["std"])):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval(): it is frozen."""
        del mode
        return super().train(False)

    def forward(self, image_B3HW: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            x = (image_B3HW - self._mean) / self._std
            # Of a timm model; nn.Module declares all attributes as tensors or modules.
            read = cast("Callable[..., list[Tensor]]", self.network.forward_intermediates)
            levels = read(x, self.places, intermediates_only=True)
        return tuple(levels)


def build_features(backbone: str, weights: Path | None) -> Features:
    """The frozen features of a backbone. UsageError: no such one; DataError: weights are absent."""
    if backbone in BACKBONES:
        shared = build_backbone(backbone, weights=weights, output_stride=32, levels=_LEVELS)
        return cast(Features, shared)
    import timm

    if backbone not in timm.list_models():
        known = ", ".join(BACKBONES)
        raise UsageError(
            f"unknown backbone {backbone!r}: choose one of {known}, or a model of timm"
        )
    return cast(Features, _timm_features(backbone, weights))


def _timm_features(backbone: str, weights: Path | None) -> TimmFeatures:
    import timm

    if weights is None:
        raise DataError(
            f"backbone {backbone} needs a file of its ImageNet weights, as timm publishes them: "
            "name it with --weights FILE"
        )
    network = timm.create_model(backbone, pretrained=False)
    if not hasattr(network, "forward_intermediates"):
        raise UsageError(f"timm's {backbone} gives no features of its levels: choose another one")
    file = read_weights(WeightSource(weights.name, "get it from its authors"), weights)
    load_strictly(network, file)
    return TimmFeatures(network, file.weights_id)
