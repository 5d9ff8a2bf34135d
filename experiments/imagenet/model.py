"""ResNets of torchvision and timm that normalise their own input."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from experiments.backbones.weights import RANDOM_WEIGHTS_ID, load_strictly, read_weights
from experiments.imagenet.options import ModelOptions
from experiments.imagenet.weights import weights_of

_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
_BLURRED_FROM = 16


class Classifier(nn.Module):
    """A network on uint8 images; its logits are those of the network on normalised ones."""

    _mean: Tensor
    _std: Tensor

    def __init__(self, network: nn.Module, weights_id: str) -> None:
        super().__init__()
        self.network = network
        self.weights_id = weights_id
        self.register_buffer("_mean", torch.tensor(_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(_STD).view(3, 1, 1), persistent=False)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """RGB in [0, 255] to logits B x classes."""
        # As float: a uint8 minus a mean would be computed in mixed precision elsewhere.
        images = (images_B3HW.float() - self._mean) / self._std
        return cast(Tensor, self.network(images))


class BlurredConv(nn.Module):
    """A strided convolution whose input is blurred first, so that it aliases less (Zhang, 2019)."""

    _kernel: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(line, line).expand(conv.in_channels, 1, 3, 3)
        self.register_buffer("_kernel", kernel.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of the blurred input."""
        kernel = self._kernel.to(x.dtype)
        return cast(Tensor, self.conv(F.conv2d(x, kernel, padding=1, groups=x.shape[1])))


class TinyResNet(nn.Module):
    """A ResNet of 24 thousand parameters for 32 to 64 pixels, its parts named as in others."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1, self.layer2 = _tiny_block(8, 8), _tiny_block(8, 16)
        self.layer3, self.layer4 = _tiny_block(16, 16), _tiny_block(16, 32)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images to logits."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return cast(Tensor, self.fc(x.mean((2, 3))))


def build_classifier(
    options: ModelOptions, num_classes: int, given_weights: Path | None
) -> Classifier:
    """The network of the options. DataError: its weight file is absent or does not fit."""
    network = build_network(options.network, num_classes)
    if options.blur_pool:
        _blur(network)
    weights_id = RANDOM_WEIGHTS_ID
    if options.start == "weights":
        weights = read_weights(weights_of(options.network), given_weights)
        load_strictly(network, weights)
        weights_id = weights.weights_id
    if options.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Classifier(network, weights_id)


def build_network(name: str, num_classes: int) -> nn.Module:
    """The bare network with random weights; its classifier is `fc`."""
    if name == "tiny":
        return TinyResNet(num_classes)
    if name.endswith("d"):
        import timm

        network: nn.Module = timm.create_model(name, num_classes=num_classes)
        return network
    from torchvision import models

    return cast(nn.Module, getattr(models, name)(weights=None, num_classes=num_classes))


def last_norm(network: nn.Module) -> str:
    """The name of the batch norm that ends the last block: the last one that the input passes."""
    blocks = network.get_submodule("layer4")
    norms = [name for name, each in blocks.named_modules() if isinstance(each, nn.BatchNorm2d)]
    return f"layer4.{[name for name in norms if 'downsample' not in name][-1]}"


def _tiny_block(num_in: int, num_out: int) -> nn.Module:
    from torchvision.models.resnet import BasicBlock

    stride = 1 if num_in == num_out else 2
    shortcut = nn.Sequential(
        nn.Conv2d(num_in, num_out, 1, stride=stride, bias=False), nn.BatchNorm2d(num_out)
    )
    downsample = None if stride == 1 else shortcut
    return nn.Sequential(BasicBlock(num_in, num_out, stride, downsample))


def _blur(module: nn.Module) -> None:
    for name, child in module.named_children():
        if not isinstance(child, nn.Conv2d):
            _blur(child)
        elif max(child.stride) > 1 and child.in_channels >= _BLURRED_FROM:
            setattr(module, name, BlurredConv(child))
