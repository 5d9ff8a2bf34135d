"""A metric is shown in the unit that the manifest or the study declares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.grids import make_grid, write_result, write_sweep
from support.studies import COMMAND, study_of

from merge.records.manifest import manifest_from_json
from merge.results.view import rebuild
from orchestrator.plan.freeze import make_sweep
from replicate.views.table import format_of, results_table


def table(output: Path, unit: str, values: tuple[float, float]) -> str:
    """The table of a cell with two results in a metric of `unit`."""
    manifest = manifest_from_json({"metrics": {"miou": {"unit": unit}}})
    sweep = replace(make_grid(cells=("a",), folds=(0, 1)), frozen_manifest=manifest)
    write_sweep(output, sweep)
    for run, value in zip(sweep.runs, values, strict=True):
        write_result(output, run, value)
    merged = rebuild(output)
    return "\n".join(results_table(merged.sweep, merged.document))


def test_a_plain_number_of_an_experiment_is_not_multiplied(tmp_path):
    shown = table(tmp_path, "number", (2.31, 2.33))
    assert shown.startswith("miou  ")
    assert " 2.31 " in shown
    assert " 2.32 " in shown, "the mean"


def test_a_metric_in_percent_is_shown_times_100(tmp_path):
    shown = table(tmp_path, "percent", (0.231, 0.233))
    assert shown.startswith("miou (%)")
    assert " 23.1 " in shown


def test_any_other_unit_stands_beside_the_name(tmp_path):
    shown = table(tmp_path, "ms", (12.5, 12.5))
    assert shown.startswith("miou (ms)")
    assert " 12.5 " in shown


@pytest.mark.parametrize(
    ("metric", "unit", "goal"),
    [
        ("score", "", "max"),
        ("{name: loss, goal: min}", "", "min"),
        ("{name: loss, goal: max}", "", "max"),
        ("{name: gain, unit: nats}", " (nats)", "max"),
        ("{name: accuracy, unit: percent}", " (%)", "max"),
    ],
)
def test_a_study_of_a_command_declares_its_metric(tmp_path, metric, unit, goal):
    study = study_of(tmp_path, COMMAND.replace("{name: loss, goal: min}", metric))
    sweep = make_sweep(study, {})
    assert format_of(sweep).unit == unit
    assert sweep.goal == goal
    assert sweep.manifest.metric(sweep.metric).goal == goal
