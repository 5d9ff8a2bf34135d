"""The studies that come with papergrid: the paper's 32 runs, and the demo's 8."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from merge.records.sweep import Run
from orchestrator.plan.selection import select
from orchestrator.studies.grid import expand
from orchestrator.studies.load import load_study
from orchestrator.studies.published import read_published
from orchestrator.studies.study import Study

REPLICATE = Path(__file__).resolve().parents[4] / "replicate"


@cache
def study_named(name: str, *, debug: bool = False) -> Study:
    folders = (REPLICATE / "published",)
    return load_study(
        REPLICATE / "studies" / f"{name}.yaml", published_folders=folders, debug=debug
    )


def table_of(name: str) -> tuple[Run, ...]:
    study = study_named(name)
    return select(expand(study), study.axes, {})


def test_abcb_is_the_32_runs_of_the_papers_tables() -> None:
    runs = table_of("abcb")
    assert len(runs) == 32
    assert len({run.cell for run in runs}) == 8
    assert runs[0].path == "pascal5i_resnet50_1shot/fold0"
    assert runs[-1].path == "coco20i_resnet101_5shot/fold3"


@pytest.mark.parametrize(
    ("dataset", "recipe"),
    [
        (
            "pascal5i",
            {"epochs": 250, "lr": 0.002, "global_batch": 16, "image_size": 473}
            | {"scale_min": 0.9, "scale_max": 1.1, "test_episodes": 1000},
        ),
        (
            "coco20i",
            {"epochs": 70, "lr": 0.005, "global_batch": 8, "image_size": 641}
            | {"scale_min": 0.8, "scale_max": 1.25, "test_episodes": 4000},
        ),
    ],
)
def test_abcb_has_the_papers_recipe_in_every_run(dataset: str, recipe: dict[str, object]) -> None:
    recipe = {**recipe, "momentum": 0.9, "weight_decay": 0.0001, "poly_power": 0.9}
    runs = [run for run in expand(study_named("abcb")) if run.axes["dataset"] == dataset]
    assert len(runs) == 32
    for run in runs:
        assert {key: run.config[key] for key in recipe} == recipe
        assert run.config["optimizer"] == "sgd"
        assert run.config["abcb_neck"] == "correlation"


def test_a_backbone_beside_the_table_runs_only_where_it_is_named() -> None:
    study = study_named("abcb")
    where = {
        "dataset": ["coco20i"],
        "backbone": ["efficientnet_lite0"],
        "shot": ["1"],
        "fold": ["0", "1", "2", "3"],
    }
    selected = select(expand(study), study.axes, where)
    assert [run.path for run in selected] == [
        f"coco20i_efficientnet_lite0_1shot/fold{fold}" for fold in range(4)
    ]
    assert not any(run.in_table for run in selected)


def test_abcb_stands_beside_the_papers_numbers_as_fractions() -> None:
    published = study_named("abcb").published
    assert set(published["cells"]) == {run.cell for run in table_of("abcb")}
    assert published["cells"]["pascal5i_resnet50_1shot"] == {
        "0": 0.729,
        "1": 0.76,
        "2": 0.695,
        "3": 0.64,
        "mean": 0.706,
    }


def test_published_means_are_those_of_their_folds_but_for_the_papers_one_slip() -> None:
    table = read_published(REPLICATE / "published" / "abcb.yaml")
    slips = []
    for name, method in table.methods.items():
        for cell, row in method.cells.items():
            assert all(0 < v < 1 for key, v in row.items() if key != "note")
            folds = [row[key] for key in "0123" if key in row]
            # Folds and means are rounded on their own: 0.1 points apart is no slip.
            if folds and abs(sum(folds) / 4 - row["mean"]) > 0.0011:
                slips.append((name, cell))
    assert slips == [("ABCB", "coco20i_resnet101_1shot")]
    assert sum(len(method.cells) for method in table.methods.values()) == 90


def test_demo_is_8_runs_of_two_processes_on_the_cpu() -> None:
    runs = table_of("demo")
    assert len(runs) == len(expand(study_named("demo"))) == 8
    assert {(run.resources.devices_per_run, run.resources.device) for run in runs} == {(2, "cpu")}
    assert {run.axes["fold"] for run in runs} == {0, 1}
    by_backbone = {run.axes["backbone"]: set() for run in runs}
    for run in runs:
        by_backbone[run.axes["backbone"]].add(run.axes["shot"])
    lite = "efficientnet_lite"
    assert by_backbone == {f"{lite}0": {1, 5}, f"{lite}1": {1}, f"{lite}2": {1}}


@pytest.mark.parametrize("name", ["abcb", "demo"])
def test_debug_runs_are_small_and_never_taken_for_real_ones(name: str) -> None:
    real = expand(study_named(name))
    small = expand(study_named(name, debug=True))
    assert {run.config["epochs"] for run in small} == {1}
    assert not {run.config_hash for run in small} & {run.config_hash for run in real}
