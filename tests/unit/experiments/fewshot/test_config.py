"""The options of the few-shot experiment."""

from __future__ import annotations

import pytest

from experiments.backbones.build import BACKBONES
from experiments.fewshot.config import OPTIONS_PATH, FewShotConfig, read_config, resolve_amp
from experiments.fewshot.episodes.protocols import ProtocolName
from experiments.fewshot.episodes.source import Dataset, MaskVariant
from experiments.fewshot.models.registry import METHODS, option_defaults
from experiments.runtime.options import build_config, load_options, options_of
from merge.errors import UsageError

OPTIONS = load_options(OPTIONS_PATH)


def test_the_options_file_and_the_config_agree_in_names_order_and_defaults():
    defaults = options_of(FewShotConfig())
    assert list(defaults.items()) == [(name, o.default) for name, o in OPTIONS.items()]


def test_every_default_is_a_value_that_its_option_allows():
    defaults = {name: option.default for name, option in OPTIONS.items()}
    assert build_config(FewShotConfig, OPTIONS, defaults) == FewShotConfig()


def test_every_option_says_what_it_is():
    assert [name for name, option in OPTIONS.items() if not option.help.endswith(".")] == []


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("backbone", tuple(BACKBONES)),
        ("method", tuple(METHODS)),
        ("dataset", Dataset.__args__),
        ("mask_variant", MaskVariant.__args__),
        ("protocol", ProtocolName.__args__),
    ],
)
def test_the_choices_are_those_that_the_code_knows(name, known):
    assert set(OPTIONS[name].choices) == set(known)


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_a_method_is_an_option_with_the_same_default(method):
    assert FewShotConfig(method=method).method_options == option_defaults(method)


def test_a_run_that_names_an_unknown_option_is_refused():
    with pytest.raises(UsageError, match="unknown option 'epoch': did you mean 'epochs'"):
        read_config({"epoch": 3})


@pytest.mark.parametrize(
    ("values", "seeds", "is_original"),
    [
        ({"protocol": "bam"}, (321,), True),
        ({"protocol": "hsnet"}, (0,), False),
        ({"protocol": "hsnet", "eval_size": "original", "test_seeds": [3, 1]}, (3, 1), True),
    ],
)
def test_test_seeds_and_evaluation_size_are_the_protocols_unless_named(values, seeds, is_original):
    config = read_config(values)
    assert config.chosen_test_seeds == seeds
    assert config.counts_at_original_size is is_original


def test_a_test_seed_that_is_named_twice_is_refused():
    with pytest.raises(UsageError, match="has a seed twice"):
        read_config({"test_seeds": [1, 2, 1]})


def test_scales_in_the_wrong_order_are_refused():
    with pytest.raises(UsageError, match="scale_min"):
        read_config({"scale_min": 1.2})


@pytest.mark.parametrize(
    ("amp", "device", "has_bf16", "resolved"),
    [
        ("auto", "cpu", True, "off"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "fp16"),
        ("off", "cuda", True, "off"),
        ("fp16", "cuda", True, "fp16"),
    ],
)
def test_mixed_precision_follows_the_device_only_on_auto(amp, device, has_bf16, resolved):
    assert resolve_amp(read_config({"amp": amp}), device, has_bf16=has_bf16) == resolved


def test_mixed_precision_on_the_cpu_is_refused_and_not_quietly_off():
    with pytest.raises(UsageError, match="amp=bf16 needs a GPU"):
        resolve_amp(read_config({"amp": "bf16"}), "cpu", has_bf16=True)
