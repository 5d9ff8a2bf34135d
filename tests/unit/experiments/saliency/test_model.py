"""The readout: a density over the pixels that starts as the centre bias."""

from __future__ import annotations

import pytest
import timm
import torch
from support.saliency import new_model

from experiments.saliency.features import TimmFeatures, build_features
from experiments.saliency.model import Blur
from merge.errors import DataError, UsageError

TINY_BACKBONE = "test_efficientnet"


def log_bias(height, width):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre = -((rows - height / 2) ** 2 + (columns - width / 2) ** 2) / 20
    return torch.log_softmax(centre.flatten().double(), 0).view(1, height, width)


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)


def test_the_untrained_model_is_the_centre_bias(images):
    bias = log_bias(30, 41)
    assert torch.allclose(new_model()(images, bias), bias, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 6), (37, 53)])
@torch.no_grad()
def test_it_predicts_a_density_at_any_size(images, size):
    model = new_model()
    for parameter in model.readout.parameters():
        torch.nn.init.normal_(parameter)
    log_density = model(images, log_bias(*size))
    assert log_density.shape == (1, *size)
    assert log_density.exp().sum() == pytest.approx(1, abs=1e-9)
    assert (log_density - log_bias(*size)).abs().max() > 0.1


def test_the_last_layer_alone_is_zero_so_gradients_reach_it_at_once(images):
    model = new_model()
    model(images, log_bias(4, 6).float())[0, 1, 1].backward()
    last = model.readout.layers[-1]
    assert last.weight.grad.abs().max() > 0
    assert model.bias_weight.grad.abs() > 0


@torch.no_grad()
def test_the_blur_keeps_constants_and_spreads_a_peak():
    blur = Blur(1.0)
    assert torch.allclose(blur(torch.ones(1, 1, 5, 7)), torch.ones(1, 1, 5, 7), atol=1e-6)
    peak = torch.zeros(1, 1, 15, 15)
    peak[..., 7, 7] = 1
    spread = blur(peak)[0, 0]
    expected = torch.exp(-((torch.arange(15) - 7.0) ** 2) / 2)
    assert torch.allclose(spread[7] / spread[7, 7], expected, atol=2e-2)
    assert spread.sum() == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.manual_seed(1)
    torch.save(timm.create_model(TINY_BACKBONE).state_dict(), path)
    return path


def test_any_model_of_timm_gives_features_with_a_file_of_its_weights(images, weight_file):
    features = build_features(TINY_BACKBONE, weight_file)
    assert isinstance(features, TimmFeatures)
    assert features.weights_id.startswith("tiny.pth sha256:")
    levels = features(images.float())
    assert [level.shape[1] for level in levels] == list(features.out_channels)
    assert [tuple(level.shape[2:]) for level in levels] == [(4, 6), (2, 3), (1, 2)]
    assert not any(parameter.requires_grad for parameter in features.parameters())
    # What the network gets is normalised once, from RGB of 0 to 255.
    network = timm.create_model(TINY_BACKBONE).eval()
    network.load_state_dict(torch.load(weight_file, weights_only=True))
    mean, std = (torch.tensor(network.default_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = network.forward_intermediates(
            (images.float() / 255 - mean) / std, features.places, intermediates_only=True
        )
    for ours, theirs in zip(levels, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_frozen_features_stay_frozen_in_training(weight_file):
    features = build_features(TINY_BACKBONE, weight_file)
    assert isinstance(features, TimmFeatures)
    assert not features.train().training
    assert not any(module.training for module in features.modules())


def test_a_backbone_that_cannot_serve_is_refused(weight_file, tmp_path):
    with pytest.raises(UsageError, match="unknown backbone 'efficientnet_light'"):
        build_features("efficientnet_light", None)
    with pytest.raises(DataError, match="needs a file of its ImageNet weights"):
        build_features(TINY_BACKBONE, None)
    with pytest.raises(DataError, match="does not fit this backbone"):
        build_features("test_resnet", weight_file)
