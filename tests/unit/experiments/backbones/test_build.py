"""Backbones: resolution, dilation, normalisation, and that frozen means frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from experiments.backbones.build import BACKBONES, build_backbone
from experiments.backbones.weights import read_weights
from merge.errors import UsageError


def _images(size: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.rand(count, 3, size, size, generator=generator) * 255


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of the right form; its values are random."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mine.pth"
    torch.save(BACKBONES["resnet18"].build(32).state_dict(), path)
    return path


@pytest.mark.parametrize(("size", "side"), [(473, 60), (641, 81)])
@pytest.mark.parametrize("name", list(BACKBONES))
def test_all_levels_have_the_papers_resolution_at_output_stride_8(
    name: str, size: int, side: int
) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, from_scratch=True, levels=(2, 3, 4))
        levels = backbone(torch.empty(2, 3, size, size))
    assert [level.shape for level in levels] == [(2, c, side, side) for c in backbone.out_channels]


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_resnet_equals_the_strided_one_on_its_grid(name: str, output_stride: int) -> None:
    dilated, strided = (
        build_backbone(name, from_scratch=True, output_stride=stride, levels=(2, 3, 4))
        .eval()
        .double()
        for stride in (output_stride, 32)
    )
    dilated.load_state_dict(strided.state_dict())
    images = _images(65).double()
    with torch.no_grad():
        for level, (fine, coarse) in enumerate(zip(dilated(images), strided(images), strict=True)):
            step = max(1, 8 * 2**level // output_stride)
            torch.testing.assert_close(fine[..., ::step, ::step], coarse)


def test_our_dilation_of_resnet50_is_torchvisions_own() -> None:
    from torchvision.models import resnet50

    theirs = resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    ours = BACKBONES["resnet50"].build(8)
    assert [str(m) for m in ours.modules()] == [str(m) for m in theirs.modules()]


def test_resnet_input_is_normalised_as_torchvision_documents(resnet18_file: Path) -> None:
    from torchvision.models import ResNet18_Weights, resnet18

    network = resnet18(weights=None).eval()
    network.load_state_dict(torch.load(resnet18_file, weights_only=True))
    image = _images(224).round()
    trunk = nn.Sequential(*list(network.children())[:6])
    recipe = ResNet18_Weights.IMAGENET1K_V1.transforms()
    with torch.no_grad():
        expected = trunk(recipe(_resize_free(image)))
        (level,) = build_backbone("resnet18", weights=resnet18_file, levels=(2,))(image)
    torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-4)


def _resize_free(image_13HW: Tensor) -> Tensor:
    """Frame an image so that torchvision's resize to 256 and crop to 224 leave it as it is."""
    framed = nn.functional.pad(image_13HW, (16, 16, 16, 16))
    return framed.to(torch.uint8)


def test_a_pretrained_backbone_never_changes_in_training(resnet18_file: Path) -> None:
    backbone = build_backbone("resnet18", weights=resnet18_file)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    model = nn.Sequential(backbone).train()
    levels = model(_images(64, count=2).requires_grad_())
    assert not any(level.requires_grad for level in levels)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    assert all(torch.equal(before[key], value) for key, value in backbone.state_dict().items())


def test_a_backbone_from_scratch_is_trained_with_its_batch_statistics() -> None:
    backbone = build_backbone("resnet18", from_scratch=True).train()
    statistics = backbone.get_buffer("stages.0.1.running_mean")
    before = statistics.clone()
    sum(level.sum() for level in backbone(_images(64, count=2))).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    assert not torch.equal(statistics, before)
    assert backbone.weights_id == "random"


@pytest.mark.parametrize("name", list(BACKBONES))
def test_blocks_beyond_the_deepest_level_are_dropped(name: str) -> None:
    with torch.device("meta"):
        counts = [
            len(build_backbone(name, from_scratch=True, levels=levels).state_dict())
            for levels in ((2,), (2, 3), (2, 3, 4))
        ]
    assert counts == sorted(set(counts))


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"name": "resnet34"}, "choose one of resnet18"),
        ({"name": "resnet50", "output_stride": 4}, "choose one of"),
        ({"name": "resnet50", "levels": (3, 2)}, "ascending"),
        ({"name": "resnet50", "levels": ()}, "ascending"),
        ({"name": "resnet50", "from_scratch": True, "weights": Path()}, "exclude each other"),
    ],
)
def test_a_wrong_argument_names_the_choices(arguments: dict[str, object], hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        build_backbone(**arguments)  # type: ignore[arg-type]


@pytest.mark.data
def test_efficientnet_lite0_is_really_pretrained(real_data: Path) -> None:
    lite0 = BACKBONES["efficientnet_lite0"]
    torch.manual_seed(0)
    pretrained, untrained = lite0.build(32).eval(), lite0.build(32).eval()
    lite0.load(pretrained, read_weights(lite0.source, None))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (lite0.mean, lite0.std))
    images = (torch.stack(_photographs(real_data, count=24)) - mean) / std
    with torch.no_grad():
        sure, unsure = (n(images).softmax(1).amax(1).mean() for n in (pretrained, untrained))
    assert sure > 0.3
    assert unsure < 0.05


def _photographs(real_data: Path, count: int) -> list[Tensor]:
    paths = sorted((real_data / "coco-mini" / "val2014").glob("*.jpg"))[:count]
    images = [Image.open(path).convert("RGB").resize((224, 224)) for path in paths]
    return [torch.from_numpy(np.array(image)).permute(2, 0, 1).float() for image in images]
