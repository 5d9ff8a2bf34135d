"""Image backbones: frozen feature extractors that normalise their own input.

Level n is the network's n-th group of blocks, of natural stride 2 ** (n + 1): level 2 has stride 8,
3 has 16, 4 has 32. A smaller output stride turns the strides beyond it into dilation: with output
stride 8 all levels have one resolution, 60x60 at 473 and 81x81 at 641.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, get_args

import torch
from torch import Tensor, nn

from experiments.backbones.cells import CellGrid, cell_grid
from experiments.backbones.resnets import (
    DEEP_STEM_DEPTHS,
    DeepDilation,
    load_resnet,
    resnet_builder,
    split_resnet,
)
from experiments.backbones.weight_files import Stem, WeightSource, weight_source
from experiments.backbones.weights import (
    RANDOM_WEIGHTS_ID,
    Weights,
    load_in_order,
    read_weights,
)
from merge.errors import UsageError

Rgb = tuple[float, float, float]

_IMAGENET_MEAN: Rgb = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_IMAGENET_STD: Rgb = (0.229 * 255, 0.224 * 255, 0.225 * 255)
_OUTPUT_STRIDES = (8, 16, 32)
_LEVELS = (2, 3, 4)


@dataclass(frozen=True, slots=True)
class Architecture:
    """How one backbone is built and loaded."""

    build: Callable[[int], nn.Module]
    """The whole network, random weights, for an output stride."""
    split: Callable[[nn.Module], list[nn.Module]]
    """Its stem with level 1, then levels 2, 3 and 4."""
    load: Callable[[nn.Module, Weights], None]
    source: WeightSource
    channels: tuple[int, int, int]
    """Of levels 2, 3 and 4."""
    mean: Rgb
    std: Rgb
    feature_scale: float = 1.0
    """What the levels are divided by, so that a head meets values of the order of 1."""


class Backbone(nn.Module):
    """Levels of features of an image batch.

    With pretrained weights it is frozen: no gradients, always in eval(), batch-norm statistics
    never change. From scratch (random weights) it is trained like any other part of the model.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self, name: str, stages: Sequence[nn.Module], levels: tuple[int, ...], weights_id: str
    ) -> None:
        super().__init__()
        architecture = BACKBONES[name]
        self.name = name
        self.levels = levels
        self.weights_id = weights_id
        self.out_channels = tuple(architecture.channels[level - 2] for level in levels)
        self.mean, self.std = architecture.mean, architecture.std
        self.feature_scale = architecture.feature_scale
        self.is_frozen = weights_id != RANDOM_WEIGHTS_ID
        self.stages = nn.ModuleList(stages[: max(levels)])
        self._grids: dict[tuple[tuple[int, int], int], CellGrid] = {}
        self.register_buffer("_mean", torch.tensor(self.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(3, 1, 1), persistent=False)
        if self.is_frozen:
            self.requires_grad_(False)
            self.eval()

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode; a frozen backbone stays in eval()."""
        return super().train(mode and not self.is_frozen)

    def normalise(self, images_B3HW: Tensor) -> Tensor:
        """RGB in [0, 255] as the pretrained network saw it."""
        return (images_B3HW - self._mean) / self._std

    def grid(self, image_hw: tuple[int, int], level: int | None = None) -> CellGrid:
        """Where the cells of a level, or of the deepest one, lie in an image of this size."""
        key = (image_hw, level or max(self.levels))
        if key not in self._grids:
            self._grids[key] = cell_grid(self.stages[: key[1]], image_hw)
        return self._grids[key]

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, ...]:
        """RGB in [0, 255] to one B C h w tensor per level, h = ceil(H / that level's stride)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            x, features = self.normalise(images_B3HW), []
            for level, stage in enumerate(self.stages, start=1):
                x = stage(x)
                if level in self.levels:
                    features.append(x / self.feature_scale)
        return tuple(features)


def build_backbone(  # noqa: PLR0913
    name: str,
    *,
    weights: Path | None = None,
    from_scratch: bool = False,
    output_stride: int = 8,
    levels: tuple[int, ...] = (2, 3),
    stem: Stem = "plain",
    deep_dilation: DeepDilation = "every_block",
) -> Backbone:
    """Build one of BACKBONES with its ImageNet weights, or `from_scratch` with random ones.

    Blocks beyond the deepest of `levels` are dropped. Raises UsageError for an unknown name,
    stride, level or stem, DataError for a weight file that is absent or does not fit.
    """
    _check_arguments(name, weights, from_scratch, output_stride, levels)
    architecture = _architecture(name, stem, deep_dilation)
    network = architecture.build(output_stride)
    weights_id = RANDOM_WEIGHTS_ID
    if not from_scratch:
        file = read_weights(architecture.source, weights)
        architecture.load(network, file)
        weights_id = file.weights_id
    return Backbone(name, architecture.split(network), levels, weights_id)


def _check_arguments(
    name: str, weights: Path | None, from_scratch: bool, output_stride: int, levels: tuple[int, ...]
) -> None:
    if name not in BACKBONES:
        raise UsageError(f"unknown backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    if output_stride not in _OUTPUT_STRIDES:
        raise UsageError(f"output stride {output_stride}: choose one of {_OUTPUT_STRIDES}")
    if not levels or not set(levels) <= set(_LEVELS) or tuple(sorted(set(levels))) != levels:
        raise UsageError(f"backbone levels {levels}: choose ascending ones of {_LEVELS}")
    if from_scratch and weights is not None:
        raise UsageError("--weights and --from-scratch exclude each other: give one of them")


def _architecture(name: str, stem: Stem, deep_dilation: DeepDilation) -> Architecture:
    if stem == "plain":
        return BACKBONES[name]
    weight_source(name, stem)  # refuses a backbone without a deep stem
    return _DEEP_STEMS[name, deep_dilation]


def _build_lite(number: int, output_stride: int) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(
        f"tf_efficientnet_lite{number}", pretrained=False, output_stride=output_stride
    )
    return network


def _split_lite(network: nn.Module) -> list[nn.Module]:
    blocks = list(network.get_submodule("blocks").children())
    stem = [network.get_submodule("conv_stem"), network.get_submodule("bn1"), *blocks[:2]]
    return [
        nn.Sequential(*stem),
        blocks[2],
        nn.Sequential(*blocks[3:5]),
        nn.Sequential(*blocks[5:7]),
    ]


def _resnet(
    depth: int,
    channels: tuple[int, int, int],
    stem: Stem = "plain",
    deep_dilation: DeepDilation = "every_block",
) -> Architecture:
    return Architecture(
        build=resnet_builder(depth, stem, deep_dilation),
        split=split_resnet,
        load=load_resnet,
        source=weight_source(f"resnet{depth}", stem),
        channels=channels,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    )


def _lite(number: int, channels: tuple[int, int, int], *, feature_scale: float) -> Architecture:
    """Its levels end linear: level 2 and 3 have a standard deviation of about `feature_scale`."""
    return Architecture(
        build=partial(_build_lite, number),
        split=_split_lite,
        load=load_in_order,
        source=weight_source(f"efficientnet_lite{number}"),
        channels=channels,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        feature_scale=feature_scale,
    )


BACKBONES: dict[str, Architecture] = {
    "resnet18": _resnet(18, (128, 256, 512)),
    "resnet50": _resnet(50, (512, 1024, 2048)),
    "resnet101": _resnet(101, (512, 1024, 2048)),
    "efficientnet_lite0": _lite(0, (40, 112, 320), feature_scale=7.0),
    "efficientnet_lite1": _lite(1, (40, 112, 320), feature_scale=8.0),
    "efficientnet_lite2": _lite(2, (48, 120, 352), feature_scale=8.0),
}
"""Names a study may use for its backbone."""

_DEEP_STEMS = {
    (f"resnet{depth}", dilation): _resnet(depth, (512, 1024, 2048), "deep", dilation)
    for depth in DEEP_STEM_DEPTHS
    for dilation in get_args(DeepDilation)
}
