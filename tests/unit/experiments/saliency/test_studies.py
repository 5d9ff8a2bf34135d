"""The studies of saliency: the original's sweep, and one for a laptop."""

from __future__ import annotations

from pathlib import Path

from orchestrator.plan.selection import select
from orchestrator.studies.grid import expand
from orchestrator.studies.load import load_study

STUDIES = Path(__file__).parents[4] / "replicate" / "studies"


def runs_of(name):
    study = load_study(STUDIES / f"{name}.yaml")
    return select(expand(study), study.axes, {})


def test_the_sweep_is_two_variants_in_ten_folds_on_4_gpus():
    runs = runs_of("saliency")
    assert len(runs) == 20
    assert {run.axes["variant"] for run in runs} == {"baseline", "entropy"}
    hours = {"baseline": (6, 8), "entropy": (8, 12)}
    for run in runs:
        assert run.resources.devices_per_run == 4
        least, most = hours[run.axes["variant"]]
        assert least <= run.resources.hours <= most
        values = ("image_width", "image_height", "global_batch", "split_seed", "report")
        assert [run.config[key] for key in values] == [1024, 768, 32, 42, "final"]


def test_the_demo_needs_no_data():
    runs = runs_of("saliency_demo")
    assert len(runs) == 4
    assert {run.config["dataset"] for run in runs} == {"beacons"}
