"""The deep stem of PSPNet's ResNets: its layout, and strict loading of its weight files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.backbones.build import build_backbone
from experiments.backbones.resnets import DeepDilation, resnet_builder
from merge.errors import DataError, UsageError

STEM_SHAPES = {
    "conv1.weight": (64, 3, 3, 3),
    "bn1.weight": (64,),
    "conv2.weight": (64, 64, 3, 3),
    "bn2.weight": (64,),
    "conv3.weight": (128, 64, 3, 3),
    "bn3.weight": (128,),
    "layer1.0.conv1.weight": (64, 128, 1, 1),
    "layer1.0.downsample.0.weight": (256, 128, 1, 1),
}
IN_A_SEQUENCE = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """A synthetic weight file in the layout of `resnet50_v2.pth`."""
    torch.manual_seed(0)
    state = resnet_builder(50, "deep")(32).state_dict()
    return {key: value for key, value in state.items() if "num_batches" not in key}


@pytest.fixture
def weights(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    path = tmp_path / "resnet50_v2.pth"
    torch.save(tensors, path)
    return path


def test_the_stem_has_the_layout_of_the_published_files(tensors: dict[str, Tensor]) -> None:
    assert {key: tuple(tensors[key].shape) for key in STEM_SHAPES} == STEM_SHAPES
    plain = resnet_builder(50, "plain")(32).state_dict()
    changed = {key.rpartition(".")[0] for key in STEM_SHAPES}
    for key in set(tensors) | {key for key in plain if "num_batches" not in key}:
        if key.rpartition(".")[0] not in changed:
            assert tensors[key].shape == plain[key].shape, key


@pytest.mark.parametrize("side", [97, 473])
def test_the_deep_stem_keeps_the_grid_of_the_plain_one(weights: Path, side: int) -> None:
    backbone = build_backbone("resnet50", weights=weights, levels=(2,), stem="deep")
    with torch.no_grad():
        (level,) = backbone(torch.rand(1, 3, side, side) * 255)
    assert level.shape == (1, 512, (side + 7) // 8, (side + 7) // 8)


def test_the_stem_computes_three_convolutions_each_with_norm_and_relu(
    weights: Path, tensors: dict[str, Tensor]
) -> None:
    backbone = build_backbone("resnet50", weights=weights, levels=(2,), stem="deep")
    x = torch.randn(1, 3, 33, 33)
    ours = backbone.stages[0][:10](x)  # type: ignore[index]
    for place, stride in ((1, 2), (2, 1), (3, 1)):
        x = torch.nn.functional.conv2d(x, tensors[f"conv{place}.weight"], stride=stride, padding=1)
        norm = [tensors[f"bn{place}.{name}"] for name in ("running_mean", "running_var")]
        x = torch.nn.functional.batch_norm(x, *norm).relu()
    expected = torch.nn.functional.max_pool2d(x, 3, 2, 1)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_file_whose_stem_is_the_sequence_layer0_gives_the_same_backbone(
    tmp_path: Path, tensors: dict[str, Tensor], weights: Path
) -> None:
    renamed = {}
    for key, value in tensors.items():
        module, _, last = key.rpartition(".")
        place = IN_A_SEQUENCE.get(module)
        renamed[key if place is None else f"layer0.{place}.{last}"] = value
    torch.save(renamed, tmp_path / "sequence.pth")
    one, other = (
        build_backbone("resnet50", weights=path, levels=(2,), stem="deep").state_dict()
        for path in (weights, tmp_path / "sequence.pth")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_every_key_that_does_not_fit_is_named(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    damaged = dict(tensors)
    absent = ["conv2.weight", "bn3.running_var", "layer4.2.bn3.bias"]
    for key in absent:
        del damaged[key]
    strangers = ["conv4.weight", "layer0.0.gain", "aux.1.bias"]
    damaged |= {key: torch.zeros(1) for key in strangers}
    damaged["conv3.weight"] = torch.zeros(128, 64, 1, 1)
    damaged["layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    torch.save(damaged, tmp_path / "resnet50_v2.pth")
    with pytest.raises(DataError) as caught:
        build_backbone("resnet50", weights=tmp_path / "resnet50_v2.pth", stem="deep")
    message = str(caught.value)
    assert "3 missing" in message
    assert "3 unexpected" in message
    assert "conv3.weight (128, 64, 1, 1) instead of (128, 64, 3, 3)" in message
    assert "layer1.0.conv1.weight (64, 64, 1, 1) instead of (64, 128, 1, 1)" in message
    for key in (*absent, "conv4.weight", "conv1.gain", "aux.1.bias"):
        assert key in message


def test_a_file_of_the_other_stem_is_refused(tmp_path: Path, weights: Path) -> None:
    torch.save(resnet_builder(50, "plain")(32).state_dict(), tmp_path / "plain.pth")
    with pytest.raises(DataError, match=r"missing.*conv2\.weight"):
        build_backbone("resnet50", weights=tmp_path / "plain.pth", stem="deep")
    with pytest.raises(DataError, match=r"unexpected.*conv2\.weight"):
        build_backbone("resnet50", weights=weights)


@pytest.mark.parametrize(
    ("dilation", "first_blocks"), [("every_block", [2, 4]), ("torchvision", [1, 2])]
)
def test_a_deep_stem_dilates_every_block_unless_torchvisions_rule_is_chosen(
    dilation: DeepDilation, first_blocks: list[int]
) -> None:
    with torch.device("meta"):
        network = resnet_builder(50, "deep", dilation)(8)
    convs = [
        [block.get_submodule("conv2") for block in network.get_submodule(name).children()]
        for name in ("layer3", "layer4")
    ]
    assert [level[0].dilation for level in convs] == [(d, d) for d in first_blocks]
    assert [level[1].dilation for level in convs] == [(2, 2), (4, 4)]
    for conv in (conv for level in convs for conv in level):
        assert conv.padding == conv.dilation
        assert conv.stride == (1, 1)


def test_only_resnet50_and_101_have_a_deep_stem() -> None:
    with pytest.raises(UsageError, match=r"resnet18 has no deep stem.*resnet50, resnet101"):
        build_backbone("resnet18", stem="deep")


def test_an_absent_deep_stem_file_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"resnet101_v2\.pth.*hszhao/semseg"):
        build_backbone("resnet101", stem="deep")
