"""A frozen backbone as a constant computes what the backbone computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from experiments.backbones.build import Backbone, _architecture
from experiments.backbones.constant import ConstantBackbone, folded
from experiments.backbones.weight_files import Stem

pytestmark = pytest.mark.system


def _frozen(name: str, stem: Stem = "plain") -> Backbone:
    """With random weights and statistics, in float64."""
    torch.manual_seed(0)
    architecture = _architecture(name, stem, "every_block")
    network = architecture.build(8)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return Backbone(name, architecture.split(network), (2, 3, 4), "some weights").double()


@pytest.mark.parametrize(
    ("name", "stem"),
    [("resnet18", "plain"), ("resnet50", "deep"), ("efficientnet_lite0", "plain")],
)
def test_a_constant_gives_the_levels_of_its_backbone(name: str, stem: Stem) -> None:
    backbone = _frozen(name, stem)
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    images = torch.rand(1, 3, 41, 33, dtype=torch.float64) * 255
    constant = ConstantBackbone(backbone, torch.float64)
    for ours, theirs in zip(constant(images), backbone(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    assert not [key for key in constant.state_dict() if "running_mean" in key]
    assert list(backbone.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


def test_a_constant_gives_its_type_channels_last_and_no_gradient() -> None:
    constant = ConstantBackbone(_frozen("resnet18").float(), torch.bfloat16)
    levels = constant(torch.randint(0, 256, (2, 3, 33, 33), dtype=torch.uint8))
    for level in levels:
        assert level.dtype == torch.bfloat16
        assert level.is_contiguous(memory_format=torch.channels_last)
        assert not level.requires_grad
    assert not [parameter for parameter in constant.parameters() if parameter.requires_grad]


def test_a_backbone_that_is_trained_or_unknown_is_no_constant() -> None:
    trained = Backbone("resnet18", [nn.Conv2d(3, 4, 3)], (2,), "some weights")
    trained.is_frozen = False
    with pytest.raises(ValueError, match="frozen"):
        ConstantBackbone(trained, torch.float32)
    with pytest.raises(ValueError, match=r"unknown place in the backbone: 0\.1"):
        folded(nn.ModuleList([nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))]))
