"""Learning rates, batches in parts and their weights."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.runtime.batches import shares, slices, to_device
from experiments.runtime.learner import weighted_sum
from experiments.runtime.options import OptimiserOptions
from experiments.runtime.task import Term


class Pair(NamedTuple):
    image: torch.Tensor
    label: torch.Tensor


@given(st.integers(1, 99), st.floats(0.1, 2))
def test_poly_starts_at_lr_and_falls_with_every_step(num_steps, power):
    options = OptimiserOptions(lr=0.5, poly_power=power)
    rates = [options.rate(step, num_steps) for step in range(num_steps)]
    assert rates[0] == 0.5
    assert rates == sorted(set(rates), reverse=True)
    assert rates[-1] > 0


def test_a_poly_power_of_zero_keeps_the_rate():
    assert OptimiserOptions(lr=0.5, poly_power=0).rate(9, 10) == 0.5


@pytest.mark.parametrize("kind", [Pair, lambda *tensors: tensors, lambda a, b: {"a": a, "b": b}])
def test_batches_of_any_kind_come_in_parts_of_the_same_kind(kind):
    batch = kind(torch.arange(5), torch.arange(10).reshape(5, 2))
    parts = slices(batch, 2)
    assert [type(part) for part in parts] == [type(batch)] * 3
    firsts = [part["a"] if isinstance(part, dict) else part[0] for part in parts]
    assert [first.tolist() for first in firsts] == [[0, 1], [2, 3], [4]]


def test_a_batch_of_unequal_lengths_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"lengths \[2, 3\]: override Task.split and weights"):
        slices((torch.zeros(2), torch.zeros(3)), 1)


def test_what_is_no_tensor_stays_as_it_is_on_a_device():
    batch = to_device({"x": torch.zeros(2), "name": "a", "ids": [3]}, torch.device("meta"))
    assert (batch["x"].device.type, batch["name"], batch["ids"]) == ("meta", "a", [3])


def test_shares_are_relative_to_the_mean_and_one_where_there_is_nothing():
    own, total = {"pixels": 30, "boxes": 0}, {"pixels": 40, "boxes": 0}
    assert shares(own, total, parts=2) == {"pixels": 1.5, "boxes": 1.0}


def test_a_loss_is_the_sum_of_its_terms_by_what_each_counts():
    terms = [Term(torch.tensor(2.0), "pixels"), Term(torch.tensor(4.0), "images", 0.5)]
    total = weighted_sum(terms, {"pixels": 3.0, "images": 1.0}, {"pixels": 0.5, "images": 0.25})
    assert float(total) == 2.0 * 1.5 + 4.0 * 0.5 * 0.25
    with pytest.raises(ValueError, match="without any term"):
        weighted_sum([])
