"""What the models of all tasks share: normalisation, and how weight files are loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.backbones.weights import RANDOM_WEIGHTS_ID, load_strictly, read_weights
from experiments.dense.models.features import colour_range
from experiments.dense.models.published import weights_of_run
from experiments.dense.options import ModelOptions

TORCHVISION_RESNETS = ("resnet50", "resnet101")
_MOBILENET = "mobilenet_v3_large"

_HEADS = {
    "fcn": ("classifier", "aux_classifier"),
    "deeplabv3": ("classifier", "aux_classifier"),
    "lraspp": ("classifier",),
    "faster_rcnn": ("backbone.fpn", "rpn", "roi_heads"),
    "retinanet": ("backbone.fpn", "head"),
    "classifier": ("fc",),
}


def head_parts(network: ModelOptions) -> tuple[str, ...]:
    """Names of the parts of a model that train on a frozen backbone."""
    is_mobile_classifier = (network.model, network.backbone) == ("classifier", _MOBILENET)
    parts = ("classifier",) if is_mobile_classifier else _HEADS[network.model]
    return tuple(f"net.{part}" for part in parts)


class DenseModel(nn.Module):
    """A network in torchvision's form, behind the normalisation of its weights."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, network: ModelOptions, weights_id: str) -> None:
        super().__init__()
        self.net = net
        self.weights_id = weights_id
        self._head = head_parts(network)
        colours = zip(("mean", "std"), colour_range(network.backbone), strict=True)
        for name, colour in colours:
            self.register_buffer(name, torch.tensor(colour).view(3, 1, 1), persistent=False)

    def forward(self, images_B3HW: Tensor) -> Any:  # noqa: ANN401
        """What the network makes of uint8 images."""
        return self.net((images_B3HW / 255 - self.mean) / self.std)

    def backbone_state(self) -> dict[str, Tensor]:
        """All of the state outside of the head."""
        parts = tuple(f"{part}." for part in self._head)
        return {name: v for name, v in self.state_dict().items() if not name.startswith(parts)}


def load_model(net: nn.Module, network: ModelOptions, given: Path | None) -> str:
    """Load torchvision's whole trained model into `net`; the id of the file.

    UsageError: none is published. DataError: the file is absent or does not fit.
    """
    file = read_weights(weights_of_run(network), given)
    load_strictly(net, file)
    return file.weights_id


def load_backbone(
    body: nn.Module,
    network: ModelOptions,
    given: Path | None,
    *,
    ignored: tuple[str, ...] = ("fc.",),
) -> str:
    """Load ImageNet weights into a backbone of torchvision, unless it starts from scratch.

    The id of the file. DataError: it is absent or does not fit.
    """
    if network.from_scratch:
        return RANDOM_WEIGHTS_ID
    file = read_weights(weights_of_run(network), given)
    load_strictly(body, file, ignored=ignored)
    return file.weights_id


def load_mobile_features(features: nn.Module, network: ModelOptions, given: Path | None) -> str:
    """Load the convolutions of MobileNetV3 alone, whose file names them `features.*`."""
    if network.from_scratch:
        return RANDOM_WEIGHTS_ID
    file = read_weights(weights_of_run(network), given)
    prefix = "features."
    kept = {k.removeprefix(prefix): v for k, v in file.tensors.items() if k.startswith(prefix)}
    load_strictly(features, replace(file, tensors=kept))
    return file.weights_id
