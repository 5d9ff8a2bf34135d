"""A frozen backbone as a constant: batch norm folded into convolutions, weights cast once.

The copy that is made here computes what the backbone computes, to rounding. The backbone itself
stays as it is, so that names in checkpoints do not change.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from experiments.backbones.build import Backbone

_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))
_LITE_PAIRS = {
    "DepthwiseSeparableConv": (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    "InvertedResidual": (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}
"""By class: timm's blocks, where batch norm and activation are one module."""


class ConstantBackbone(nn.Module):
    """The levels of a frozen backbone in `dtype` and channels-last; takes RGB in [0, 255]."""

    def __init__(self, backbone: Backbone, dtype: torch.dtype) -> None:
        """ValueError: the backbone is trained, or has a batch norm at an unknown place."""
        super().__init__()
        if not backbone.is_frozen:
            raise ValueError("only a frozen backbone is a constant")
        self._source = (backbone,)  # in a tuple: its weights are no part of this module
        self.dtype = dtype
        self.stages = folded(backbone.stages)
        _cast(self.stages, dtype)

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, ...]:
        """One B C h w tensor per level, as the backbone itself gives them."""
        (backbone,) = self._source
        # The weights have the wanted type already: autocast would only look for what to cast.
        with torch.autocast(images_B3HW.device.type, enabled=False):
            x = backbone.normalise(images_B3HW).to(
                dtype=self.dtype, memory_format=torch.channels_last
            )
            features = []
            for level, stage in enumerate(self.stages, start=1):
                x = stage(x)
                if level in backbone.levels:
                    scale = backbone.feature_scale
                    features.append(x if scale == 1 else x / scale)
        return tuple(features)


def folded(stages: nn.ModuleList) -> nn.ModuleList:
    """A copy of frozen stages whose convolutions do what batch norm did after them.

    ValueError: a batch norm follows something else than a convolution.
    """
    ours = copy.deepcopy(stages).requires_grad_(False)
    for parent in list(ours.modules()):
        for conv_name, norm_name in _pairs(parent):
            _fold(parent, conv_name, norm_name)
    left = [name for name, each in ours.named_modules() if _is_norm(each)]
    if left:
        raise ValueError(f"batch norm at an unknown place in the backbone: {left[0]}")
    return ours


def _cast(stages: nn.ModuleList, dtype: torch.dtype) -> None:
    """Weights in `dtype` and channels-last. After folding only convolutions have any."""
    for conv in stages.modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        weight = conv.weight.detach().to(dtype=dtype, memory_format=torch.channels_last)
        conv.weight = nn.Parameter(weight, requires_grad=False)
        if conv.bias is not None:
            conv.bias = nn.Parameter(conv.bias.detach().to(dtype), requires_grad=False)


def _pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of a convolution and of the batch norm that follows it."""
    children = dict(parent.named_children())
    if isinstance(parent, nn.Sequential):
        names = list(children)
        candidates = tuple(itertools.pairwise(names))
    else:
        candidates = _LITE_PAIRS.get(type(parent).__name__, _PAIRS)
    for conv_name, norm_name in candidates:
        conv, norm = children.get(conv_name), children.get(norm_name)
        if isinstance(conv, nn.Conv2d) and norm is not None and _is_norm(norm):
            yield conv_name, norm_name


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _fold(parent: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = parent.get_submodule(conv_name), parent.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        conv.weight, conv.bias = _fused(conv, norm)
    # timm's batch norm carries the activation, which stays.
    rest = [each for each in norm.children() if not isinstance(each, nn.Identity)]
    setattr(parent, norm_name, nn.Sequential(*rest) if rest else nn.Identity())


def _fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[nn.Parameter, nn.Parameter]:
    """In float64: rounded once, when the weights are cast."""
    mean, variance, weight, bias = (
        getattr(norm, name).double() for name in ("running_mean", "running_var", "weight", "bias")
    )
    conv_bias = None if conv.bias is None else conv.bias.double()
    fused = fuse_conv_bn_weights(
        conv.weight.double(), conv_bias, mean, variance, norm.eps, weight, bias
    )
    new_weight, new_bias = (each.to(conv.weight.dtype) for each in fused)
    return nn.Parameter(new_weight, requires_grad=False), nn.Parameter(
        new_bias, requires_grad=False
    )
