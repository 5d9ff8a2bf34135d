"""FCN, DeepLabV3 and LR-ASPP, under torchvision's names of their weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from torchvision.models import segmentation
from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3
from torchvision.models.segmentation.fcn import FCN, FCNHead

from experiments.backbones.weights import RANDOM_WEIGHTS_ID
from experiments.dense.models.features import Levels, shared_levels, tiny_levels
from experiments.dense.models.network import (
    TORCHVISION_RESNETS,
    DenseModel,
    load_backbone,
    load_mobile_features,
    load_model,
)
from experiments.dense.options import ModelOptions

_OUTPUT_STRIDE = 8


def build_segmentation(network: ModelOptions, num_classes: int, given: Path | None) -> DenseModel:
    """The model; its output is a dict with logits BCHW `out`, and `aux` where it has that head."""
    if network.backbone in (*TORCHVISION_RESNETS, "mobilenet_v3_large"):
        net, weights_id = _of_torchvision(network, num_classes, given)
    else:
        net, weights_id = _on_levels(network, num_classes, given)
    return DenseModel(net, network, weights_id)


def _of_torchvision(
    network: ModelOptions, num_classes: int, given: Path | None
) -> tuple[nn.Module, str]:
    words: dict[str, object] = {} if network.model == "lraspp" else {"aux_loss": True}
    build = getattr(segmentation, f"{network.model}_{network.backbone}")
    net: nn.Module = build(weights=None, weights_backbone=None, num_classes=num_classes, **words)
    body = net.get_submodule("backbone")
    if network.weights_of == "model":
        return net, load_model(net, network, given)
    if network.backbone in TORCHVISION_RESNETS:
        return net, load_backbone(body, network, given)
    return net, load_mobile_features(body, network, given)


def _on_levels(
    network: ModelOptions, num_classes: int, given: Path | None
) -> tuple[nn.Module, str]:
    levels, weights_id = _levels(network, given)
    channels = levels.out_channels
    build, head = (FCN, FCNHead) if network.model == "fcn" else (DeepLabV3, DeepLabHead)
    net = build(levels, head(channels["out"], num_classes), FCNHead(channels["aux"], num_classes))
    return net, weights_id


def _levels(network: ModelOptions, given: Path | None) -> tuple[Levels, str]:
    if network.backbone == "tiny":
        return tiny_levels({3: "out", 2: "aux"}), RANDOM_WEIGHTS_ID
    return shared_levels(
        network.backbone,
        {4: "out", 3: "aux"},
        given,
        from_scratch=network.from_scratch,
        output_stride=_OUTPUT_STRIDE,
    )
