"""Features of test images: equal for any room, bounded, forgotten where a backbone is trained."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from experiments.fewshot.feature_cache import FeatureCache


class HalfMegabyteModel:
    """Encodes an image as its mean over half a megabyte, and notes the sizes of its batches."""

    def __init__(self, *, is_frozen: bool = True) -> None:
        self.backbone = SimpleNamespace(is_frozen=is_frozen)
        self.batches: list[int] = []

    def encode(self, images_N3HW):
        self.batches.append(len(images_N3HW))
        means = images_N3HW.mean((1, 2, 3), keepdim=True)
        return (means.expand(-1, 2, 128, 512).clone(),)


def images(names: str):
    return torch.stack([torch.full((3, 4, 4), float(ord(name))) for name in names])


def encoded(cache, model, names: str) -> list[float]:
    (level,) = cache.encode(model, list(names), images(names))
    assert level.shape == (len(names), 2, 128, 512)
    return [row.unique().item() for row in level]


def test_an_image_is_encoded_once_while_there_is_room():
    cache, model = FeatureCache(4), HalfMegabyteModel()
    for _ in range(3):
        assert encoded(cache, model, "ab") == [ord("a"), ord("b")]
    assert cache.num_encoded == 2


@pytest.mark.parametrize(("room_mb", "num_encoded"), [(0, 6), (1, 6), (2, 3), (-1, 3)])
def test_the_least_recently_used_image_goes_first(room_mb, num_encoded):
    cache, model = FeatureCache(room_mb), HalfMegabyteModel()
    for _ in range(2):
        for name in ("a", "b", "c"):
            assert encoded(cache, model, name) == [ord(name)]
    assert cache.num_encoded == num_encoded


@pytest.mark.parametrize("room_mb", [0, 1, 4])
def test_batches_have_one_size_and_an_image_comes_once_into_them(room_mb):
    cache, model = FeatureCache(room_mb, batch_size=4), HalfMegabyteModel()
    for names in ("abcab", "cdefgh", "a"):
        assert encoded(cache, model, names) == [ord(name) for name in names]
    assert set(model.batches) == {4}
    # Of room for two images, c stays until it is asked for again.
    assert cache.num_encoded == {0: 3 + 6 + 1, 1: 3 + 5 + 1, 4: 8}[room_mb]


@pytest.mark.parametrize(("is_frozen", "num_encoded"), [(True, 1), (False, 2)])
def test_features_of_a_backbone_that_is_trained_do_not_outlive_an_evaluation(
    is_frozen, num_encoded
):
    cache, model = FeatureCache(4), HalfMegabyteModel(is_frozen=is_frozen)
    for _ in range(2):
        cache.begin(model)
        encoded(cache, model, "a")
        encoded(cache, model, "a")
    assert cache.num_encoded == num_encoded


def test_a_training_step_gets_the_memory_of_a_gpu_and_leaves_that_of_the_host():
    cache, model = FeatureCache(4), HalfMegabyteModel()
    encoded(cache, model, "a")
    cache.make_room(torch.device("cpu"))
    encoded(cache, model, "a")
    assert cache.num_encoded == 1
    cache.make_room(torch.device("cuda", 0))
    encoded(cache, model, "a")
    assert cache.num_encoded == 2
