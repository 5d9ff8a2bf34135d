"""Episodes that are predicted together: the same counts for any room, as those of numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.fewshot import new_method

from experiments.fewshot.canvas import canvas_of, stack
from experiments.fewshot.episodes.bam import Episode
from experiments.fewshot.episodes.transforms import Placement
from experiments.fewshot.feature_cache import FeatureCache
from experiments.fewshot.loading import EvalItem
from experiments.fewshot.metrics import episode_counts
from experiments.fewshot.predict import Predictor, count_pixels
from experiments.runtime.entry import NonFiniteError

CPU = torch.device("cpu")


def test_pixels_are_counted_as_numpy_counts_them():
    rng = np.random.default_rng(0)
    predictions = rng.random((3, 7, 9)) < 0.5
    truth = rng.choice(np.array([0, 1, 255], np.uint8), (7, 9))
    found = count_pixels(torch.from_numpy(predictions), torch.from_numpy(truth))
    assert found.dtype == torch.int64
    assert found.tolist() == [episode_counts(each, truth).tolist() for each in predictions]


def item(number: int) -> EvalItem:
    """An episode of images of their own, three of which share a support."""
    rng = np.random.default_rng(number)
    height = 48 + 8 * (number % 3)
    pixels = torch.from_numpy(rng.integers(0, 256, (2, height, 64, 3), dtype=np.uint8))
    query, support = (canvas_of(each, (64, 64), (0, 0)) for each in pixels)
    mask = torch.full((1, 64, 64), 255, dtype=torch.uint8)
    mask[:, :height] = 0
    mask[:, 8:40, 8:32] = 1
    truth = rng.choice(np.array([0, 1, 255], np.uint8), (2 * height, 128))
    placement = Placement((2 * height, 128), (height, 64), (64, 64))
    episode = Episode(f"q{number}", 1 + number % 2, (f"s{number}",))
    return EvalItem(number, episode, query, stack([support]), mask, placement, truth)


@pytest.fixture(scope="module")
def model():
    options = {"abcb_channels": 16, "abcb_num_heads": 2, "abcb_iterations": 2}
    return new_method("abcb", "efficientnet_lite0", **options).eval()


def test_counts_depend_on_no_cache_and_are_those_of_the_mask(model):
    items = [item(number) for number in range(4)]
    found = [
        Predictor(model, CPU, FeatureCache(room_mb, 4), model.mean_rgb).counts(items)
        for room_mb in (0, 64)
    ]
    np.testing.assert_array_equal(*found)
    assert np.stack(found[0]).shape == (4, 2, 5)
    alone = Predictor(model, CPU, FeatureCache(64), model.mean_rgb)
    for each, counts in zip(items, found[0], strict=True):
        expected = episode_counts(alone.mask(each), each.truth)
        # One episode by itself may round in another way than four together.
        np.testing.assert_allclose(counts[-1], expected, rtol=0.02, atol=2)


def test_features_do_not_depend_on_the_images_beside_them(model):
    images = torch.stack([item(number).query.painted(model.mean_rgb) for number in range(8)])
    names = [str(number) for number in range(8)]
    whole = FeatureCache(0, 4).encode(model, names, images)
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    mixed = FeatureCache(0, 4).encode(model, [names[k] for k in order], images[order])
    for level, other in zip(whole, mixed, strict=True):
        assert torch.equal(level[order], other)


def test_a_model_that_is_destroyed_has_no_counts(model):
    broken = new_method("abcb", "efficientnet_lite0", abcb_channels=16, abcb_num_heads=2).eval()
    with torch.no_grad():
        next(broken.qp.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError):
        Predictor(broken, CPU, FeatureCache(0, 2), model.mean_rgb).counts([item(0), item(1)])
