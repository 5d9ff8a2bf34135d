"""The metrics on cases that can be worked out by hand; pysaliency is asked in the system tests."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.saliency.metrics import (
    METRICS,
    Fixated,
    auc,
    cc,
    information_gain,
    kl,
    nss,
    scores,
    sim,
)

MAP = np.array([[1.0, 2.0], [3.0, 6.0]])
LAST, FIRST = np.array([3]), np.array([0])


def test_auc_counts_ties_half_and_needs_no_jitter():
    values = MAP.ravel()
    # Three of four pixels lie below the last one, which ties with itself.
    assert auc(MAP, LAST, values) == 3.5 / 4
    assert auc(MAP, FIRST, values) == 0.5 / 4
    assert auc(MAP, np.array([0, 3]), values) == 0.5
    assert auc(np.ones((2, 2)), LAST, np.ones(4)) == 0.5


def test_shuffled_auc_gives_a_map_of_the_centre_no_credit():
    """Where people look in other images is where they look in this one: all the centre bias."""
    rng = np.random.default_rng(2)
    height, width = 24, 32
    rows, columns = np.indices((height, width))
    centre = -((rows - 12) ** 2 / 30 + (columns - 16) ** 2 / 50)
    log_density = centre - np.log(np.exp(centre).sum())
    draws = rng.choice(height * width, (2, 4000), p=np.exp(log_density).ravel())
    truth = Fixated(draws[0], draws[1], np.full((height, width), -np.log(height * width)), 2.0)
    found = dict(zip(METRICS, scores(log_density, truth), strict=True))
    assert found["auc"] > 0.8
    assert found["sauc"] == pytest.approx(0.5, abs=0.02)


def test_nss_is_in_standard_deviations_of_the_population():
    assert nss(MAP, LAST) == pytest.approx((6 - 3) / np.sqrt(3.5))
    assert nss(np.ones((2, 2)), LAST) == 0


def test_information_gain_is_in_bits_over_the_baseline():
    uniform = np.log(np.full((2, 2), 0.25))
    certain = np.log(np.array([[1e-9, 1e-9], [1e-9, 1.0]]))
    assert information_gain(certain, uniform, LAST) == pytest.approx(2)
    assert information_gain(uniform, uniform, LAST) == 0
    halves = np.log(np.array([[0.125, 0.25], [0.125, 0.5]]))
    assert information_gain(halves, uniform, np.array([0, 3])) == pytest.approx(0)


def test_maps_are_compared_as_densities():
    other = np.array([[6.0, 3.0], [2.0, 1.0]])
    assert sim(MAP, other) == pytest.approx((1 + 2 + 2 + 1) / 12)
    assert sim(MAP, 5 * MAP) == pytest.approx(1)
    assert cc(MAP, 3 * MAP + 7) == pytest.approx(1)
    assert cc(MAP, -MAP) == pytest.approx(-1)
    assert kl(MAP, 5 * MAP) == pytest.approx(0, abs=1e-12)
    p, q = MAP.ravel() / 12, other.ravel() / 12
    assert kl(other, MAP) == pytest.approx((p * np.log(p / q)).sum())
    # The empirical density decides the weights, so the divergence has a direction.
    assert kl(np.array([[1.0, 1.0]]), np.array([[1.0, 0.0]])) == pytest.approx(np.log(2))
    assert kl(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])) > 10


def test_each_fixation_counts_also_where_several_lie_in_one_pixel():
    once, twice = np.array([0, 3]), np.array([0, 3, 3])
    assert nss(MAP, twice) > nss(MAP, once)
    assert auc(MAP, twice, MAP.ravel()) == pytest.approx((0.5 + 3.5 + 3.5) / 12)
