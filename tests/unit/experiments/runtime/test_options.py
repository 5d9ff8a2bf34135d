"""A dataclass of options: its flat names, its groups, and the check of values."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pytest

from experiments.runtime.experiment import EXPERIMENTS, find_experiment
from experiments.runtime.options import FREE, Prefix, Range, build, declared, flat, leaves
from experiments.runtime.write_options import options_yaml
from merge.errors import UsageError
from orchestrator.studies.options import read_options


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOptions:
    """A group."""

    width: Annotated[int, Range(1, 9)] = 4
    """Width of the
    head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All kinds of options."""

    name: Literal["a", "b"] = "a"
    """A name."""
    stride: Literal[8, 16] = 8
    lr: Annotated[float, Range(0)] = 0.1
    """Learning rate: 0 is none."""
    is_fast: Annotated[bool, FREE] = False
    """Whether fast."""
    scales: Annotated[tuple[float, ...], Range(0.1)] = (0.5, 2.0)
    """Scales."""
    head: Annotated[HeadOptions, Prefix("head_")] = HeadOptions(width=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reordered(Options):
    """The same with an order of its own."""

    ORDER: ClassVar[tuple[str, ...]] = (
        *("head_width", "scales", "is_fast", "lr", "stride"),
        "name",
    )


def test_values_replace_defaults_and_become_the_fields_types():
    options = build(Options, {"lr": 1, "scales": [1, 2], "head_width": 7})
    assert options == Options(lr=1.0, scales=(1.0, 2.0), head=HeadOptions(width=7))
    assert isinstance(options.lr, float)
    assert flat(options)["scales"] == [1.0, 2.0]


def test_names_are_flat_with_the_prefixes_of_their_groups():
    names = ["name", "stride", "lr", "is_fast", "scales", "head_width"]
    assert list(flat(Options())) == names
    assert flat(Options())["head_width"] == 5
    assert declared(Options, "mine").free_keys == ("is_fast",)


def test_an_order_of_its_own_is_kept_and_must_name_every_option_once():
    assert list(flat(Reordered())) == list(Reordered.ORDER)

    class Incomplete(Options):
        ORDER = ("name",)

    with pytest.raises(TypeError, match="does not name each"):
        leaves(Incomplete)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads_width": 3}, "experiment 'mine' has no option 'heads_width': did you mean"),
        ({"zzzz": 3}, "known: name, stride"),
        ({"head_width": True}, "option 'head_width': must be a whole number, not True"),
        ({"head_width": 1.5}, "must be a whole number, not 1.5"),
        ({"lr": "1e-3"}, r"must be a number \(without quotes\)"),
        ({"lr": float("nan")}, "must be a finite number"),
        ({"is_fast": 1}, "must be true or false, not 1"),
        ({"scales": 1.0}, "must be a list, not 1.0"),
        ({"scales": [1.0, "x"]}, "must be a number, not 'x'"),
        ({"scales": [1.0, 0.01]}, "must be at least 0.1, not 0.01"),
        ({"name": "c"}, "'c' is not a choice.*choices: a, b"),
        ({"stride": 12}, "choices: 8, 16"),
        ({"head_width": 0}, "must be at least 1"),
        ({"head_width": 10}, "must be at most 9"),
        ({"lr": -1, "head_widt": 3}, "'lr': .*; experiment .* did you mean"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values, message):
    with pytest.raises(UsageError, match=message):
        build(Options, values, "mine")


def test_the_generated_file_says_to_the_control_plane_what_the_trainer_checks(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "options.yaml").write_text(options_yaml(Options))
    assert read_options(tmp_path, "mine") == declared(Options, "mine")
    text = (tmp_path / "mine" / "options.yaml").read_text()
    assert "help: Width of the head.\n" in text
    assert "help: 'Learning rate: 0 is none.'\n" in text
    assert text.startswith("# A dataclass of options: its flat names")


def test_a_type_that_no_study_can_write_is_refused_where_it_is_declared():
    @dataclass(frozen=True)
    class Wrong:
        names: dict[str, int] | None = None

    with pytest.raises(TypeError, match="must be int, float, bool, str, Literal or tuple"):
        leaves(Wrong)


EXPERIMENT_NAMES = sorted(path.parent.name for path in EXPERIMENTS.glob("*/options.yaml"))


@pytest.mark.parametrize("name", EXPERIMENT_NAMES)
def test_options_yaml_is_what_options_py_declares(name, tmp_path):
    """`make options` writes it."""
    experiment = find_experiment(name, tmp_path)
    written = (experiment.folder / "options.yaml").read_text()
    assert written == options_yaml(experiment.options_type)
    assert read_options(EXPERIMENTS, name) == declared(experiment.options_type, name)
    assert [name for name, line in _helps(written) if not line.endswith((".", ".'"))] == []


def test_options_are_declared_without_torch():
    for name in EXPERIMENT_NAMES:
        code = f"import sys, experiments.{name}.options; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _helps(text):
    name = ""
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith((" ", "#")):
            name = line
        if line.startswith("  help:"):
            yield name, line
