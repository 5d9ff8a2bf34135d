"""Named random streams."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.runtime.seeds import derive_seed, numpy_generator, seed_everything

names = st.lists(st.text(max_size=5) | st.integers(0, 99), max_size=4).map(tuple)


@given(st.integers(0, 2**63), names, names)
def test_different_names_give_different_streams(root, one, other):
    same = [(type(part), part) for part in one] == [(type(part), part) for part in other]
    assert (derive_seed(root, *one) == derive_seed(root, *other)) == same


@given(st.integers(), names)
def test_a_seed_fits_every_generator(root, name):
    seed = derive_seed(root, *name)
    assert 0 <= seed < 2**63
    numpy_generator(root, *name)


def test_a_seed_is_the_same_on_every_machine_and_version():
    assert derive_seed(0, "train order", 3) == 4831498144453537516


def test_a_numpy_integer_names_the_same_stream_as_a_plain_one():
    assert derive_seed(1, "epoch", int(np.int64(7))) == derive_seed(1, "epoch", np.int64(7))


def test_seed_everything_repeats_all_global_generators():
    def draw() -> tuple[float, float, float]:
        seed_everything(5, "rank", 1)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw() == draw()
