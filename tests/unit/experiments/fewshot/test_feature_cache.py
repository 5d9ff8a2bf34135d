"""Features of test images: equal for any room, bounded, forgotten where a backbone is trained."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from experiments.fewshot.feature_cache import FeatureCache, stack_shots


class HalfMegabyteModel:
    """Encodes an image as its mean over half a megabyte."""

    def __init__(self, *, is_frozen: bool = True) -> None:
        self.backbone = SimpleNamespace(is_frozen=is_frozen)

    def encode(self, images_N3HW):
        return (images_N3HW.mean((1, 2, 3), keepdim=True).expand(1, 2, 128, 512).clone(),)


def image(value: float):
    return torch.full((3, 4, 4), value)


def test_an_image_is_encoded_once_while_there_is_room():
    cache, model = FeatureCache(4), HalfMegabyteModel()
    for _ in range(3):
        for name in ("a", "b"):
            (level,) = cache.encode(model, name, image(float(ord(name))))
            assert level.unique().tolist() == [ord(name)]
    assert cache.num_encoded == 2


@pytest.mark.parametrize(("room_mb", "num_encoded"), [(0, 6), (1, 6), (2, 3)])
def test_the_least_recently_used_image_goes_first(room_mb, num_encoded):
    cache, model = FeatureCache(room_mb), HalfMegabyteModel()
    for _ in range(2):
        for name in ("a", "b", "c"):
            (level,) = cache.encode(model, name, image(float(ord(name))))
            assert level.unique().tolist() == [ord(name)]
    assert cache.num_encoded == num_encoded


@pytest.mark.parametrize(("is_frozen", "num_encoded"), [(True, 1), (False, 2)])
def test_features_of_a_backbone_that_is_trained_do_not_outlive_an_evaluation(
    is_frozen, num_encoded
):
    cache, model = FeatureCache(4), HalfMegabyteModel(is_frozen=is_frozen)
    for _ in range(2):
        cache.begin(model)
        cache.encode(model, "a", image(1.0))
        cache.encode(model, "a", image(1.0))
    assert cache.num_encoded == num_encoded


def test_shots_are_stacked_level_by_level():
    shots = [(torch.full((1, 2, 3, 3), k), torch.full((1, 4, 3, 3), 10 * k)) for k in (1.0, 2.0)]
    first, second = stack_shots(shots)
    assert first.shape == (1, 2, 2, 3, 3)
    assert second[0, :, 0, 0, 0].tolist() == [10.0, 20.0]
