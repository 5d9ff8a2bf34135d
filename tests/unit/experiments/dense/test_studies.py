"""The studies of the dense tasks, as they come with papergrid."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from torchvision.models import get_model_weights

from experiments.dense.models.published import NUM_OUTPUTS
from experiments.dense.options import Options
from experiments.runtime.options import build
from orchestrator.plan.selection import select
from orchestrator.studies.grid import expand
from orchestrator.studies.load import load_study
from orchestrator.studies.published import read_published

REPLICATE = Path(__file__).resolve().parents[4] / "replicate"
TASKS = ("segmentation", "detection", "classification")
STUDIES = sorted(path.stem for path in (REPLICATE / "studies").glob("dense_*.yaml"))
TORCHVISION = {"faster_rcnn": "fasterrcnn_{}_fpn", "retinanet": "retinanet_{}_fpn"}


@cache
def study_named(name: str, *, debug: bool = False):
    path = REPLICATE / "studies" / f"{name}.yaml"
    return load_study(path, published_folders=(REPLICATE / "published",), debug=debug)


@pytest.mark.parametrize(
    ("task", "global_batch"), [("segmentation", 32), ("detection", 128), ("classification", 128)]
)
def test_the_studies_have_the_global_batches_of_the_original_on_four_devices(task, global_batch):
    runs = expand(study_named(f"dense_{task}"))
    assert {run.config["global_batch"] for run in runs} == {global_batch}
    assert {run.resources.devices_per_run for run in runs} == {4}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("debug", [False, True])
def test_each_run_of_a_study_has_options_that_go_together(name, debug):
    study = study_named(name, debug=debug)
    for run in expand(study):
        options = build(Options, run.config, "dense")
        options.check()
        assert (
            options.runtime.epochs == 0 or options.runtime.epochs > options.optimiser.warmup_epochs
        )


def test_published_numbers_are_torchvisions_own():
    for task in TASKS:
        table = read_published(REPLICATE / "published" / f"dense_{task}.yaml")
        for cell, row in table.methods["torchvision"].cells.items():
            assert row["mean"] == pytest.approx(_of_torchvision(task, cell), abs=1e-6)


def _of_torchvision(task: str, cell: str) -> float:
    name = cell.removesuffix("_full")
    for model, template in TORCHVISION.items():
        if name.startswith(model):
            name = template.format(name.removeprefix(f"{model}_"))
    weights = next(iter(get_model_weights(name)))
    (metrics,) = weights.meta["_metrics"].values()
    key = {"segmentation": "miou", "detection": "box_map", "classification": "acc@1"}[task]
    assert len(weights.meta["categories"]) == NUM_OUTPUTS[task]
    return metrics[key] / 100


def test_the_table_of_a_study_stands_beside_torchvisions():
    for task in TASKS:
        for name in (f"dense_{task}", f"dense_{task}_weights"):
            study = study_named(name)
            cells = {run.cell for run in select(expand(study), study.axes, {})}
            assert cells & set(study.published["cells"])
