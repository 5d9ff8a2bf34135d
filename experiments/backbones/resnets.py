"""ResNets as segmentation uses them: strides turned into dilation, and two kinds of stem.

The plain stem is torchvision's 7x7 convolution. The deep stem is that of PSPNet's ResNets, from
which many few-shot methods start: 3x3 convolutions of 64, 64 and 128 channels, the first of stride
2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from experiments.backbones.weight_files import Stem
from experiments.backbones.weights import Weights, load_strictly

DEEP_STEM_DEPTHS = (50, 101)
DeepDilation = Literal["every_block", "torchvision"]

_PLAIN_PARTS = ("conv1", "bn1", "relu", "maxpool", "layer1")
_DEEP_PARTS = (
    *("conv1", "bn1", "relu", "conv2", "bn2", "relu", "conv3", "bn3", "relu"),
    *("maxpool", "layer1"),
)
_LATER_LEVELS = ("layer2", "layer3", "layer4")


def resnet_builder(
    depth: int, stem: Stem, deep_dilation: DeepDilation = "every_block"
) -> Callable[[int], nn.Module]:
    """A function from output stride to the whole network with random weights.

    A plain stem is dilated by torchvision's rule, which leaves the first block of a level as it
    was; PFENet and what descends from it dilates every block of a network with a deep stem.
    """
    is_every_block = stem == "deep" and deep_dilation == "every_block"

    def build(output_stride: int) -> nn.Module:
        from torchvision import models

        network: nn.Module = getattr(models, f"resnet{depth}")(weights=None)
        if stem == "deep":
            _deepen_stem(network)
        _dilate(network, output_stride, is_every_block=is_every_block)
        return network

    return build


def split_resnet(network: nn.Module) -> list[nn.Module]:
    """Stem with level 1, then levels 2, 3 and 4."""
    names = _DEEP_PARTS if hasattr(network, "conv3") else _PLAIN_PARTS
    stem = nn.Sequential(*(network.get_submodule(name) for name in names))
    return [stem, *(network.get_submodule(name) for name in _LATER_LEVELS)]


def load_resnet(network: nn.Module, weights: Weights) -> None:
    """Load strictly; a file whose deep stem is a sequence `layer0` is read by place."""
    load_strictly(network, replace(weights, tensors=_plain_names(weights)), ignored=("fc.",))


def _deepen_stem(network: nn.Module) -> None:
    """Put PSPNet's stem in the place of the 7x7 convolution, under its names."""
    widths = (3, 64, 64, 128)
    for place, (before, after) in enumerate(itertools.pairwise(widths), start=1):
        stride = 2 if place == 1 else 1
        conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        network.add_module(f"conv{place}", conv)
        network.add_module(f"bn{place}", nn.BatchNorm2d(after))
    block = network.get_submodule("layer1.0")
    block.add_module("conv1", nn.Conv2d(widths[-1], 64, 1, bias=False))
    shortcut = block.get_submodule("downsample")
    shortcut.add_module("0", nn.Conv2d(widths[-1], 256, 1, bias=False))


def _dilate(network: nn.Module, output_stride: int, *, is_every_block: bool) -> None:
    """Remove the strides beyond `output_stride` and dilate the 3x3 convolutions after them.

    Unless `is_every_block`, the result equals the original network's on every output_stride-th
    pixel. This rule is torchvision's `replace_stride_with_dilation`, which refuses the basic blocks
    of ResNet-18.
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
                is_kept = index == place == 0 and not is_every_block
                reach = before if is_kept else dilation
                conv.dilation = conv.padding = (reach, reach)


def _plain_names(weights: Weights) -> dict[str, Tensor]:
    """The tensors, with `layer0.<place>` of a file turned into the stem's own names."""
    stem = {f"layer0.{place}": name for place, name in enumerate(_DEEP_PARTS)}
    parts = {key: key.rpartition(".") for key in weights.tensors}
    return {
        f"{stem[module]}.{last}" if module in stem else key: weights.tensors[key]
        for key, (module, _, last) in parts.items()
    }
