"""Trainable feature extractors: levels of features by name, for any head.

Level n has stride 2 ** (n + 1), unless strides are turned into dilation; of `tiny` 2 ** n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from experiments.backbones.build import BACKBONES
from experiments.backbones.weight_files import weight_source
from experiments.backbones.weights import RANDOM_WEIGHTS_ID, read_weights

Rgb = tuple[float, float, float]

IMAGENET_MEAN: Rgb = (0.485, 0.456, 0.406)
IMAGENET_STD: Rgb = (0.229, 0.224, 0.225)

_TINY_CHANNELS = (8, 16, 24, 32)


class Levels(nn.Module):
    """Named levels of a network that is a chain of parts, as torchvision's heads take them."""

    def __init__(
        self,
        parts: Sequence[nn.Module],
        names: Mapping[int, str],
        *,
        channels: Mapping[int, int],
        scale: float = 1.0,
        rests_batch_norm: bool = False,
    ) -> None:
        """`names` and `channels` are by level; the parts beyond the deepest level are dropped.

        `scale` is what the levels are divided by. Batch norm that rests keeps the statistics of the
        weight file: detection's batches are too small to measure them.
        """
        super().__init__()
        self.parts = nn.ModuleList(parts[: max(names)])
        self.out_channels = {name: channels[level] for level, name in names.items()}
        self._names = dict(names)
        self._scale = scale
        self._rests_batch_norm = rests_batch_norm

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, without the batch norm that rests."""
        super().train(mode)
        if self._rests_batch_norm:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Normalised images to B C h w of each named level."""
        x, levels = images_B3HW, {}
        for level, part in enumerate(self.parts, start=1):
            x = part(x)
            if level in self._names:
                levels[self._names[level]] = x / self._scale
        return levels


def tiny_levels(names: Mapping[int, str]) -> Levels:
    """Four convolutions with 12 thousand weights, for tests; level n has stride 2 ** n."""
    widths = (3, *_TINY_CHANNELS)
    parts = [
        nn.Sequential(
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        )
        for before, after in pairwise(widths)
    ]
    return Levels(parts, names, channels=dict(enumerate(_TINY_CHANNELS, start=1)))


def shared_levels(
    name: str,
    names: Mapping[int, str],
    weights: Path | None,
    *,
    from_scratch: bool,
    output_stride: int,
    rests_batch_norm: bool = False,
) -> tuple[Levels, str]:
    """A backbone of `experiments/backbones` with levels from 2 on, and the id of its weights."""
    architecture = BACKBONES[name]
    network, weights_id = architecture.build(output_stride), RANDOM_WEIGHTS_ID
    if not from_scratch:
        file = read_weights(weight_source(name), weights)
        architecture.load(network, file)
        weights_id = file.weights_id
    levels = Levels(
        architecture.split(network),
        names,
        channels=dict(enumerate(architecture.channels, start=2)),
        scale=architecture.feature_scale,
        rests_batch_norm=rests_batch_norm and not from_scratch,
    )
    return levels, weights_id


def colour_range(name: str) -> tuple[Rgb, Rgb]:
    """Mean and standard deviation of RGB in [0, 1], as the backbone's weights have them."""
    if name not in BACKBONES:
        return IMAGENET_MEAN, IMAGENET_STD
    mean, std = BACKBONES[name].mean, BACKBONES[name].std
    return _as_fractions(mean), _as_fractions(std)


def _as_fractions(colour: Rgb) -> Rgb:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255
