"""The options of the few-shot experiment."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest
from support.fewshot import fewshot_options

from experiments.backbones.build import BACKBONES
from experiments.fewshot.episodes.protocols import ProtocolName
from experiments.fewshot.episodes.source import Dataset, MaskVariant
from experiments.fewshot.model import build_method
from experiments.fewshot.models.abcb.ic import ConfidenceBias
from experiments.fewshot.models.abcb.layers import Normalisation
from experiments.fewshot.models.abcb.neck import CellScale, NeckEnd
from experiments.fewshot.models.abcb.sm import Evolution
from experiments.fewshot.options import AbcbOptions, Options, PrototypeOptions
from experiments.runtime.options import declared, flat
from merge.errors import UsageError
from merge.records.config_hash import config_hash

OPTIONS = declared(Options, "fewshot")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("backbone", tuple(BACKBONES)),
        ("dataset", get_args(Dataset)),
        ("mask_variant", get_args(MaskVariant)),
        ("protocol", get_args(ProtocolName)),
        ("abcb_cell_scale", get_args(CellScale)),
        ("abcb_neck_end", get_args(NeckEnd)),
        ("abcb_evolution", get_args(Evolution)),
        ("abcb_confidence_bias", get_args(ConfidenceBias)),
        ("abcb_normalisation", get_args(Normalisation)),
    ],
)
def test_the_choices_are_those_that_the_code_knows(name, known):
    assert set(OPTIONS.by_name[name].choices) == set(known)


@pytest.mark.parametrize(
    ("method", "kind"), [("prototype", PrototypeOptions), ("abcb", AbcbOptions)]
)
def test_the_options_of_a_method_carry_its_name(method, kind):
    names = {name for name in OPTIONS.by_name if name.startswith(f"{method}_")}
    assert names == {f"{method}_{field.name}" for field in fields(kind)}


def test_the_hash_of_the_defaults_is_that_of_sweeps_that_were_frozen_before():
    decides = {k: v for k, v in flat(Options()).items() if k not in OPTIONS.free_keys}
    assert config_hash(decides, experiment="fewshot", command=None) == "31ffcb94edda3ef8"
    assert len(OPTIONS.by_name) == 87


def test_a_run_that_names_an_unknown_option_is_refused():
    with pytest.raises(UsageError, match="has no option 'epoch': did you mean 'epochs'"):
        fewshot_options(epoch=3)


@pytest.mark.parametrize(
    ("values", "seeds", "is_original"),
    [
        ({"protocol": "bam"}, (321,), True),
        ({"protocol": "hsnet"}, (0,), False),
        ({"protocol": "hsnet", "eval_size": "original", "test_seeds": [3, 1]}, (3, 1), True),
    ],
)
def test_test_seeds_and_evaluation_size_are_the_protocols_unless_named(values, seeds, is_original):
    options = fewshot_options(**values)
    assert options.test_seeds == seeds
    assert options.counts_at_original_size is is_original


def test_a_test_seed_that_is_named_twice_is_refused():
    with pytest.raises(UsageError, match="has a seed twice"):
        fewshot_options(test_seeds=[1, 2, 1])


def test_scales_in_the_wrong_order_are_refused():
    with pytest.raises(UsageError, match="scale_min"):
        fewshot_options(scale_min=1.2, scale_max=1.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"abcb_channels": 500}, "500 channels do not divide into 8 heads"),
        ({"abcb_foreground_threshold": 1.0}, "between 0 and 1"),
    ],
)
def test_options_that_do_not_go_together_are_refused_where_their_method_is_built(values, message):
    with pytest.raises(UsageError, match=message):
        build_method(fewshot_options(method="abcb", **values))
    build_method(fewshot_options(method="prototype", **values))


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [("pascal5i", (0.9, 1.1)), ("coco20i", (0.8, 1.25)), ("shapes5i", (0.9, 1.1))],
)
def test_the_random_scale_is_the_fields_for_each_data_set(
    dataset: str, expected: tuple[float, float]
) -> None:
    assert fewshot_options().images.scale_range(dataset) == expected
    assert fewshot_options(scale_min=0.5).images.scale_range(dataset) == (0.5, expected[1])
