"""The allocator's settings on CUDA: ours, unless the person has set some."""

from __future__ import annotations

import pytest

from experiments.runtime.allocator import allocator_settings, let_segments_grow


def test_segments_grow_where_the_person_has_set_nothing() -> None:
    environment = {"PYTORCH_CUDA_ALLOC_CONF": ""}
    let_segments_grow(environment)
    assert allocator_settings(environment) == "expandable_segments:True"


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_settings_of_the_person_stay_and_are_recorded(name: str) -> None:
    environment = {name: "max_split_size_mb:64"}
    let_segments_grow(environment)
    assert environment == {name: "max_split_size_mb:64"}
    assert allocator_settings(environment) == "max_split_size_mb:64"
