"""Counts by episode: their sums are the metric's, their bootstrap error is the binomial one."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.fewshot.episode_counts import EpisodeCounts, bootstrap


def hits(num_hits: int, num_episodes: int) -> EpisodeCounts:
    """Episodes of one pixel each, of which `num_hits` are segmented right."""
    rows = np.ones((num_episodes, 5), np.int64)
    rows[num_hits:, 0] = 0
    return EpisodeCounts((7,), np.full(num_episodes, 7), rows)


def test_the_sums_by_class_are_the_counts_of_the_metric():
    rows = np.arange(20, dtype=np.int64).reshape(4, 5)
    counts = EpisodeCounts((1, 2, 3), np.array([2, 1, 2, 2]), rows)
    assert counts.total().counts.tolist() == [
        rows[1].tolist(),
        (rows[0] + rows[2] + rows[3]).tolist(),
        [0] * 5,
    ]


def test_counts_travel_through_plain_values():
    counts = hits(3, 10)
    again = EpisodeCounts.from_json(counts.to_json())
    assert again.to_json() == counts.to_json()
    assert again.total().counts.tolist() == counts.total().counts.tolist()


def test_the_error_of_a_share_is_the_binomial_one():
    found = bootstrap([hits(300, 1000)])
    assert found["standard_error"]["miou"] == pytest.approx((0.3 * 0.7 / 1000) ** 0.5, rel=0.1)
    low, high = found["interval"]["miou"]
    assert (low, high) == pytest.approx((0.272, 0.328), abs=0.006)
    assert found == bootstrap([hits(300, 1000)])


def test_four_test_lists_halve_the_error():
    one, four = bootstrap([hits(300, 500)]), bootstrap([hits(300, 500)] * 4)
    halved = one["standard_error"]["miou"] / 2
    assert four["standard_error"]["miou"] == pytest.approx(halved, rel=0.15)


def test_a_class_that_no_drawn_list_holds_is_left_out_of_the_mean():
    counts = EpisodeCounts((1, 2), np.array([1, 1]), np.ones((2, 5), np.int64))
    assert bootstrap([counts])["interval"]["miou"] == [1.0, 1.0]
