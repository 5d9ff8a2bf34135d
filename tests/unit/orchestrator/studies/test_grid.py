"""Expansion and selection are pure, deterministic and complete."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.studies import COMMAND, TOY, study_of

from merge.errors import SelectionError
from merge.records.config_hash import config_hash
from merge.records.manifest import Manifest
from merge.records.sweep import Axis, Resources
from orchestrator.config.values import text_of
from orchestrator.plan.selection import select
from orchestrator.studies.grid import expand
from orchestrator.studies.study import Override, Study


def plain_study(axes: tuple[Axis, ...], **fields: object) -> Study:
    """A study of a command over `axes`, the last of them averaged."""
    values: dict[str, object] = {
        "name": "plain",
        "title": "",
        "source": Path("plain.yaml"),
        "axes": axes,
        "average_over": axes[-1].name,
        "metric": "miou",
        "cell": ",".join(f"{axis.name}={{{axis.name}}}" for axis in axes[:-1]) or "all",
        "run_path": "/".join(f"{axis.name}={{{axis.name}}}" for axis in axes),
        "command": ("true",),
        "manifest": Manifest(),
        **fields,
    }
    return Study(**values)


@st.composite
def grids(draw: st.DrawFn) -> tuple[Axis, ...]:
    sizes = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=4))
    return tuple(
        Axis(
            name=f"a{index}",
            values=tuple(range(size)),
            also=tuple(f"v{number}" for number in range(further)),
        )
        for index, (size, further) in enumerate(sizes)
    )


@given(grids())
def test_every_combination_of_choices_is_one_run_in_the_order_of_the_axes(
    axes: tuple[Axis, ...],
) -> None:
    runs = expand(plain_study(axes))
    points = [tuple(run.axes.values()) for run in runs]
    assert points == list(product(*(axis.choices for axis in axes)))
    tables = set(product(*(axis.values for axis in axes)))
    assert {tuple(run.axes.values()) for run in runs if run.in_table} == tables


@given(grids())
def test_runs_have_paths_and_ids_of_their_own_and_none_lies_inside_another(
    axes: tuple[Axis, ...],
) -> None:
    runs = expand(plain_study(axes))
    paths = {run.path for run in runs}
    assert len(paths) == len({run.run_id for run in runs}) == len(runs)
    assert not any(str(parent) in paths for path in paths for parent in Path(path).parents)


@given(grids(), st.data())
def test_a_filter_selects_exactly_the_runs_that_match_all_of_it(
    axes: tuple[Axis, ...], data: st.DataObject
) -> None:
    runs = expand(plain_study(axes))
    filtered = data.draw(st.lists(st.sampled_from(axes), unique_by=lambda axis: axis.name))
    where = {
        axis.name: data.draw(
            st.lists(st.sampled_from([text_of(v) for v in axis.choices]), min_size=1)
        )
        for axis in filtered
    }
    expected = [
        run
        for run in runs
        if all(
            text_of(run.axes[axis.name])
            in (where.get(axis.name) or [text_of(v) for v in axis.values])
            for axis in axes
        )
    ]
    assert list(select(runs, axes, where)) == expected


def test_a_configuration_is_built_from_the_weakest_to_the_strongest(tmp_path: Path) -> None:
    text = TOY + (
        "fixed: {lr: 1, epochs: 2}\n"
        "overrides:\n"
        "  - {when: {shot: 5}, set: {lr: 3, epochs: 3}}\n"
        "  - {when: {lr: 3}, set: {flip: false, epochs: 4}, resources: {devices_per_run: 2}}\n"
        "debug: {epochs: 5, flip: true}\n"
    )

    def last(settings: dict[str, str], *, debug: bool) -> tuple[object, ...]:
        run = expand(study_of(tmp_path, text, settings, debug=debug))[-1]
        config = run.config
        return config["lr"], config["epochs"], config["flip"], run.resources.devices_per_run

    assert last({}, debug=False) == (3.0, 4, False, 2)
    assert last({}, debug=True) == (3.0, 5, True, 2)
    assert last({"epochs": "6"}, debug=True) == (3.0, 6, True, 2)
    assert last({"lr": "7"}, debug=False) == (7.0, 3, True, 1)


def test_a_configuration_holds_every_default_and_its_hash_covers_them(tmp_path: Path) -> None:
    run = expand(study_of(tmp_path, TOY))[0]
    assert run.config == {
        "dataset": "a",
        "shot": 1,
        "fold": 0,
        "lr": 0.1,
        "epochs": 50,
        "flip": True,
        "amp": "auto",
        "global_batch": 16,
        "sizes": [32, 64],
    }
    assert run.config_hash == config_hash(run.config, experiment="toy", command=None)
    assert (run.run_id, run.path, run.cell) == ("a_1shot-fold0", "a_1shot/fold0", "a_1shot")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("fixed: {lr: 1}", "fixed: {lr: 1.0}", True),
        ("fixed: {epochs: 50}", "", True),
        ("resources: {devices_per_run: 4, num_workers: 8}", "", True),
        ("title: another", "", True),
        ("fixed: {epochs: 51}", "", False),
    ],
)
def test_a_hash_names_what_is_trained_however_it_is_written(
    tmp_path: Path, one: str, other: str, is_same: bool
) -> None:
    hashes = [
        [run.config_hash for run in expand(study_of(tmp_path, TOY + t))] for t in (one, other)
    ]
    assert (hashes[0] == hashes[1]) is is_same


def test_excluded_points_are_no_runs(tmp_path: Path) -> None:
    runs = expand(study_of(tmp_path, TOY + "exclude: [{shot: 5, fold: [2, 3]}, {dataset: b}]"))
    assert [(run.axes["shot"], run.axes["fold"]) for run in runs] == [
        *((1, fold) for fold in range(4)),
        *((5, fold) for fold in range(2)),
    ]


def test_resources_of_an_override_reach_its_runs_alone() -> None:
    override = Override(
        when={"a0": frozenset({"1"})}, set={}, resources={"devices_per_run": 2, "device": "cuda"}
    )
    runs = expand(plain_study((Axis(name="a0", values=(0, 1)),), overrides=(override,)))
    assert [run.resources for run in runs] == [
        Resources(),
        Resources(devices_per_run=2, device="cuda"),
    ]


def test_the_default_path_names_every_axis(tmp_path: Path) -> None:
    runs = expand(study_of(tmp_path, COMMAND))
    assert runs[0].path == "lr=0.0001/seed=0"
    assert runs[0].cell == "lr=0.0001"
    assert runs[0].command == ("bash", "train.sh", "{lr}")


@pytest.mark.parametrize("text", ["1e-4", "0.0001", "1.0e-04"])
def test_a_number_is_selected_however_it_is_written(tmp_path: Path, text: str) -> None:
    study = study_of(tmp_path, COMMAND)
    selected = select(expand(study), study.axes, {"lr": [text]})
    assert {run.axes["lr"] for run in selected} == {0.0001}
    assert len(selected) == 3


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"datset": ["a"]}, "unknown axis 'datset': did you mean 'dataset'?"),
        ({"fold": ["7"]}, "fold has no value '7'; choices: 0, 1, 2, 3"),
        ({"dataset": ["c"], "fold": ["9"]}, "fold has no value '9'"),
        ({"fold": []}, "the filter on fold names no value"),
        ({"dataset": ["b"], "shot": ["5"]}, "no run is selected"),
    ],
)
def test_a_filter_that_names_nothing_lists_the_choices(
    tmp_path: Path, where: dict[str, list[str]], message: str
) -> None:
    study = study_of(tmp_path, TOY + "exclude: [{dataset: b, shot: 5}]")
    with pytest.raises(SelectionError) as caught:
        select(expand(study), study.axes, where)
    assert message in str(caught.value)


def test_grid_shards_and_freeze_load_neither_yaml_nor_pydantic() -> None:
    code = (
        "import sys, orchestrator.studies.grid, orchestrator.plan.selection;"
        "import orchestrator.plan.shards, orchestrator.plan.freeze;"
        "print([m for m in ('yaml', 'pydantic', 'torch', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
