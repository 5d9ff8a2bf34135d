"""The centre bias of an image is that of the other images."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.saliency.centre_bias import CentreBias, Pool


def bias(*fractions, images=None, uniform=1e-3):
    points = [np.array(each, float).reshape(-1, 2) for each in fractions]
    return CentreBias(Pool.of(points, images or range(len(points))), 0.05, uniform)


def peak(log_density):
    return np.unravel_index(np.argmax(log_density), log_density.shape)


def test_an_image_s_own_fixations_do_not_enter_its_centre_bias():
    found = bias([[0.2, 0.5]] * 9, [[0.8, 0.5]])
    assert peak(found.log_density(0, (40, 30))) == (15, 32)
    assert peak(found.log_density(1, (40, 30))) == (15, 8)


def test_only_images_of_the_pool_enter():
    """A tested image's bias is that of the training images, and of no other tested image."""
    found = bias([[0.2, 0.5]], [[0.8, 0.5]] * 9, [[0.5, 0.9]] * 9, images=[0])
    assert peak(found.log_density(2, (40, 30))) == (15, 8)


def test_it_is_a_density_over_the_pixels_of_any_size():
    found = bias([[0.2, 0.5]], [[0.8, 0.1]], [[0.01, 0.99]])
    for size in ((40, 30), (7, 90)):
        assert np.exp(found.log_density(1, size)).sum() == pytest.approx(1, abs=1e-12)


def test_without_other_images_there_is_none():
    with pytest.raises(ValueError, match="fixations of other images"):
        bias([[0.2, 0.5]]).log_density(0, (40, 30))
