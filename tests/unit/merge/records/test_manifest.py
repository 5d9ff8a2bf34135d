"""A manifest as data: what it declares survives a plan, and what a plan lacks has its defaults."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.grids import make_grid

from merge.records.manifest import Manifest, default_manifest, manifest_from_json
from merge.records.metrics import Metric
from merge.records.sweep import sweep_from_json

SALIENCY = {
    "title": "Saliency",
    "metrics": {"nss": {"unit": "number"}, "kld": {"goal": "min", "unit": "nats"}},
    "comparability": {
        "recorded": ["images", "list_hash"],
        "equal_in_a_cell": ["images"],
        "test_list": {"hash": "list_hash", "decided_by": ["dataset"]},
    },
    "repeats": ["seed"],
    "baseline": {"label": "centre bias", "details": "before"},
    "code": ["datasets"],
}


def test_a_manifest_survives_its_json():
    manifest = manifest_from_json(SALIENCY)
    assert manifest_from_json(manifest.to_json()) == manifest
    assert manifest.metric("kld") == Metric(name="kld", unit="nats", goal="min")
    assert manifest.comparability.recorded == ("images", "list_hash", "torch", "batch_norm_items")


def test_a_metric_that_is_not_declared_is_a_plain_number():
    assert manifest_from_json(SALIENCY).metric("auc") == Metric(name="auc", unit="number")


def test_a_plan_carries_its_manifest():
    sweep = replace(make_grid(metric="nss"), frozen_manifest=manifest_from_json(SALIENCY))
    read = sweep_from_json(sweep.to_json())
    assert read == sweep
    assert read.manifest.title == "Saliency"


@pytest.mark.parametrize(("experiment", "unit"), [("fewshot", "percent"), (None, "number")])
def test_a_plan_without_a_manifest_shows_experiments_in_percent(experiment, unit):
    grid = make_grid()
    runs = tuple(replace(run, experiment=experiment, command=("x",)) for run in grid.runs)
    sweep = replace(grid, runs=runs)
    assert sweep.manifest.metric("miou").unit == unit
    assert sweep.manifest.baseline is not None
    assert sweep.manifest.baseline.label == "untrained"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"metrics": []},
        {"metrics": {"a": {"goal": "most"}}},
        {"metrics": {"a": {"unit": 1}}},
        {"metrics": {}, "repeats": "seed"},
        {"metrics": {}, "baseline": {"label": "b"}},
        {"metrics": {}, "comparability": {"equal_in_a_pair": ["a"]}},
    ],
)
def test_a_damaged_manifest_makes_the_plan_unreadable(document):
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        sweep_from_json({**make_grid().to_json(), "manifest": document})


def test_the_defaults_are_of_the_metric_that_is_asked_for():
    manifest = default_manifest("loss", "min", "nats")
    assert manifest.metrics == (Metric(name="loss", unit="nats", goal="min"),)
    assert manifest != Manifest(metrics=manifest.metrics)


def test_a_plan_without_a_manifest_makes_its_own_once():
    sweep = replace(make_grid(), frozen_manifest=None)
    # Made anew at each look, 10,000 runs that each look at it cost 3 s: it looks at all runs.
    assert sweep.manifest is sweep.manifest
    assert replace(sweep, metric="fb_iou").manifest.metrics[0].name == "fb_iou"
