"""Counts by episode: their sums are the metric's, their bootstrap error is the binomial one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from support.grids import make_grid, make_result

from experiments.fewshot.episode_counts import EpisodeCounts, bootstrap
from experiments.fewshot.result import describe
from merge.results.entries import entry_of
from orchestrator.studies.experiment import read_experiment


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


def part(counts: Sequence[EpisodeCounts]) -> object:
    """What a merge keeps of a result with these test lists, by the experiment's own manifest."""
    seeds = list(range(len(counts)))
    details = {"reported": "best", "test_seeds": seeds, "best": describe({}, counts, False)}
    result = make_result(make_grid().runs[0], 0.5, details=details)
    return entry_of(result, read_experiment("fewshot").manifest).measured.get("parts")


def test_a_fold_whose_classes_were_not_all_tested_is_told_by_the_result() -> None:
    rows = np.array([[1, 2, 3, 4, 1]], np.int64)
    some = EpisodeCounts((1, 2, 3), np.array([2]), rows)
    every = EpisodeCounts((1, 2, 3), np.array([1, 2, 3]), rows.repeat(3, axis=0))
    expected = {"miou": {"counted": 1, "of": 3, "missing": ["1", "3"]}}
    assert part([some]) == expected
    assert part([every, some]) == expected
    assert part([every]) is None


def test_a_model_that_predicts_background_everywhere_is_suspect() -> None:
    tally = EpisodeCounts((1,), np.array([1]), np.array([[0, 2, 3, 4, 1]], np.int64))
    suspect = read_experiment("fewshot").manifest.metric("miou").suspect
    assert suspect is not None
    assert tally.total().miou() == suspect.value
    assert "background everywhere" in suspect.means
