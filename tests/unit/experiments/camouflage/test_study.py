"""The studies of the experiment: the original's recipe, and what is published beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.camouflage.options import Options
from experiments.runtime.options import build
from experiments.runtime.write_options import options_yaml
from orchestrator.plan.selection import select
from orchestrator.studies.grid import expand
from orchestrator.studies.load import load_study

REPLICATE = Path(__file__).resolve().parents[4] / "replicate"


def study(name, *, debug=False, settings=()):
    folders = (REPLICATE / "published",)
    path = REPLICATE / "studies" / f"{name}.yaml"
    return load_study(path, published_folders=folders, debug=debug, settings=dict(settings))


def test_the_study_has_the_original_recipe_which_are_the_defaults_too():
    wanted = study("camouflage")
    runs = select(expand(wanted), wanted.axes, {})
    assert [run.path for run in runs] == [
        f"cod10k_edgenext_base_{number}experts/seed{seed}" for number in (3, 7) for seed in range(3)
    ]
    recipe = {
        "epochs": 150,
        "decoder_epochs": 30,
        "image_size": 352,
        "global_batch": 64,
        "schedule": "onecycle",
        "ema_decay": 0.9999,
        "best_on": "validation",
    }
    run = runs[-1]
    assert {key: run.config[key] for key in recipe} == recipe
    assert run.config["num_experts"] == 7
    assert run.config["checkpoint_activations"] is True
    options = build(Options, run.config)
    default = build(Options, {"checkpoint_activations": True, "seed": 2})
    assert options == default
    assert run.resources.devices_per_run == 2


def test_the_written_options_are_those_of_the_code():
    path = REPLICATE.parent / "experiments" / "camouflage" / "options.yaml"
    assert path.read_text() == options_yaml(Options)


def test_batch_size_and_image_size_reach_the_trainer():
    wanted = study("camouflage", settings={"global_batch": 24, "image_size": 384})
    run = expand(wanted)[0]
    options = build(Options, run.config)
    assert (options.runtime.global_batch, options.image_size) == (24, 384)


def test_a_global_batch_fits_the_generated_images_too():
    wanted = study("camouflage")
    runs = select(expand(wanted), wanted.axes, {"dataset": ("tiny_cod10k",)})
    assert {run.config["global_batch"] for run in runs} == {8}


def test_published_numbers_stand_beside_every_cell_with_their_other_metrics():
    wanted = study("camouflage")
    cells = {run.cell for run in select(expand(wanted), wanted.axes, {})}
    published = wanted.published
    assert published["method"] == "SINet-V2"
    assert published["cells"].keys() == cells
    assert {row["mean"] for row in published["cells"].values()} == {0.815}
    assert set(published["notes"].values()) == {"weighted_f 0.68, mae 0.037, e_mean 0.887"}
    others = {name: rows.popitem()[1] for name, rows in published["others"].items()}
    assert others == {"ZoomNeXt R50": {"mean": 0.861}, "ZoomNeXt PVTv2-B4": {"mean": 0.898}}


@pytest.mark.parametrize("name", ["camouflage", "camouflage_demo"])
def test_debug_makes_runs_of_seconds(name):
    wanted = study(name, debug=True)
    (options, *_) = [build(Options, run.config) for run in select(expand(wanted), wanted.axes, {})]
    assert options.runtime.epochs == 2
    assert options.decoder_stage.epochs == 1
    assert options.data.images_per_epoch <= 32
