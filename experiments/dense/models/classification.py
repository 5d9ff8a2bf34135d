"""Classifiers: torchvision's ResNets and MobileNetV3, and a linear layer on other backbones."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torchvision import models

from experiments.backbones.weights import RANDOM_WEIGHTS_ID
from experiments.dense.models.features import Levels, shared_levels, tiny_levels
from experiments.dense.models.network import DenseModel, load_backbone, load_model
from experiments.dense.options import ModelOptions


class PooledClassifier(nn.Module):
    """A linear layer on the mean of a backbone's last level."""

    def __init__(self, backbone: Levels, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(backbone.out_channels["out"], num_classes)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Logits BC."""
        logits: Tensor = self.fc(self.backbone(images_B3HW)["out"].mean((2, 3)))
        return logits


def build_classifier(network: ModelOptions, num_classes: int, given: Path | None) -> DenseModel:
    """The model; its output are logits BC."""
    name = network.backbone
    if not name.startswith(("resnet", "mobilenet")):
        levels, weights_id = _levels(network, given)
        return DenseModel(PooledClassifier(levels, num_classes), network, weights_id)
    net: nn.Module = getattr(models, name)(weights=None, num_classes=num_classes)
    head = "fc" if name.startswith("resnet") else "classifier"
    if network.weights_of == "model":
        weights_id = load_model(net, network, given)
    else:
        weights_id = load_backbone(net, network, given, ignored=(f"{head}.",))
    return DenseModel(net, network, weights_id)


def _levels(network: ModelOptions, given: Path | None) -> tuple[Levels, str]:
    if network.backbone == "tiny":
        return tiny_levels({4: "out"}), RANDOM_WEIGHTS_ID
    return shared_levels(
        network.backbone, {4: "out"}, given, from_scratch=network.from_scratch, output_stride=32
    )
