"""Options as data and the config dataclass built from them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from experiments.runtime.options import build_config, load_options, options_of
from merge.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    name: str = "a"
    epochs: int = 1
    lr: float = 0.1
    is_fast: bool = False
    scales: tuple[float, ...] = (0.5, 2.0)


@pytest.fixture
def options(tmp_path):
    path = tmp_path / "options.yaml"
    path.write_text(
        """
name: {type: str, default: a, choices: [a, b], help: A name.}
epochs: {type: int, default: 1, min: 1, max: 9, help: Passes.}
lr: {type: float, default: 0.1, min: 0, help: Learning rate.}
is_fast: {type: bool, default: false, help: Whether fast.}
scales: {type: "list[float]", default: [0.5, 2.0], min: 0.1, help: Scales.}
"""
    )
    return load_options(path)


def test_values_replace_defaults_and_become_the_fields_types(options):
    config = build_config(Config, options, {"lr": 1, "scales": [1, 2]})
    assert config == Config(lr=1.0, scales=(1.0, 2.0))
    assert isinstance(config.lr, float)
    assert options_of(config)["scales"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "unknown option 'epoch': did you mean 'epochs'"),
        ({"zzzz": 3}, "the options are name, epochs"),
        ({"epochs": True}, "must be of type int"),
        ({"epochs": 1.0}, "must be of type int"),
        ({"lr": "1e-3"}, "must be of type float"),
        ({"lr": float("nan")}, "must be of type float"),
        ({"is_fast": 1}, "must be of type bool"),
        ({"scales": 1.0}, r"must be of type list\[float\]"),
        ({"scales": [1.0, "x"]}, r"must be of type list\[float\]"),
        ({"scales": [1.0, 0.01]}, "the least is 0.1"),
        ({"name": "c"}, "choose one of a, b"),
        ({"epochs": 0}, "the least is 1"),
        ({"epochs": 10}, "the most is 9"),
        ({"lr": -1, "epoch": 3}, "'lr' .* did you mean"),
    ],
)
def test_a_wrong_value_is_refused_by_name(options, values, message):
    with pytest.raises(UsageError, match=message):
        build_config(Config, options, values)
