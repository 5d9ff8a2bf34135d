"""The validation split of a training set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.runtime.splits import split_of
from merge.errors import UsageError


@given(st.integers(2, 400), st.integers(0, 9), st.data())
def test_a_split_takes_each_item_once(num_items, seed, data):
    count = data.draw(st.integers(1, num_items - 1))
    training, validating = split_of(num_items, count, seed)
    assert sorted(training + validating) == list(range(num_items))
    assert len(validating) == count
    assert (training, validating) == split_of(num_items, count, seed)


def test_a_split_is_drawn_and_no_range_of_sorted_items():
    _, validating = split_of(1000, 0.2, seed=3)
    assert len(validating) == 200
    assert validating[-1] - validating[0] > 900
    assert split_of(1000, 0.2, seed=4)[1] != validating


@pytest.mark.parametrize("validation", [0.0001, 0.9999, 7])
def test_a_split_that_leaves_nothing_on_one_side_is_refused(validation):
    with pytest.raises(UsageError, match="out of 7 training items leaves"):
        split_of(7, validation, seed=0)
