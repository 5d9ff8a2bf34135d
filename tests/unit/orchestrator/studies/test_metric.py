"""The metric of a study: its goal is asked for, its range is checked and frozen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.studies import COMMAND, TOY, study_of, write_experiment

from merge.errors import StudyError
from merge.records.plan_diff import plan_differences
from merge.records.sweep import sweep_from_json
from orchestrator.plan.freeze import make_sweep
from orchestrator.studies.experiment import read_experiment

GIVEN = "metric: {name: loss, goal: min}"


def with_metric(tmp_path, text):
    return study_of(tmp_path, COMMAND.replace(GIVEN, f"metric: {text}"))


@pytest.mark.parametrize("name", ["loss", "val_error", "{name: testMAE}", "{name: perplexity}"])
def test_a_metric_that_sounds_like_a_loss_needs_its_goal(tmp_path, name):
    with pytest.raises(StudyError, match=r"metric: '\w+' sounds like .*goal: min\}`, or goal: max"):
        with_metric(tmp_path, name)


@pytest.mark.parametrize("goal", ["min", "max"])
def test_either_goal_is_taken(tmp_path, goal):
    assert with_metric(tmp_path, f"{{name: loss, goal: {goal}}}").goal == goal


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[1, 0]", r"metric\.range: \[1, 0\] has no number in it"),
        ("[0]", r"metric\.range: \[0\] is not of the form \[low, high\]"),
        ("5", r"metric\.range: 5 is not of the form"),
        ("[low, 1]", r"metric\.range: 'low' is not a number"),
        ("[false, true]", r"metric\.range: False is not a number"),
    ],
)
def test_a_range_that_is_none_is_refused_at_its_place(tmp_path, given, message):
    with pytest.raises(StudyError, match=message):
        with_metric(tmp_path, f"{{name: kappa, range: {given}}}")


def test_a_plan_keeps_the_range(tmp_path):
    sweep = make_sweep(with_metric(tmp_path, "{name: kappa, range: [-1, 1]}"), {})
    read = sweep_from_json(sweep.to_json())
    assert read.manifest.metric("kappa").limits == (-1.0, 1.0)


def test_another_range_is_another_plan_and_the_default_spelled_out_is_none(tmp_path):
    plain = make_sweep(with_metric(tmp_path, "{name: acc, unit: percent}"), {})
    spelled = make_sweep(with_metric(tmp_path, "{name: acc, unit: percent, range: [0, 1]}"), {})
    wider = make_sweep(with_metric(tmp_path, "{name: acc, unit: percent, range: [0, 100]}"), {})
    assert plan_differences(plain, spelled) == ()
    assert plan_differences(plain, wider) == ("range of acc: 0 to 1 -> 0 to 100",)
    assert plain.runs == replace(wider, study="x").runs, "no configuration has changed"


def test_a_study_does_not_contradict_the_range_of_its_experiment(tmp_path):
    metric = "metric: {name: miou, range: %s}"
    assert study_of(tmp_path, TOY.replace("metric: miou", metric % "[0, 1]")).metric == "miou"
    with pytest.raises(StudyError, match=r"manifest says range 0 to 1, not 0 to 100: leave it out"):
        study_of(tmp_path, TOY.replace("metric: miou", metric % "[0, 100]"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("range: [2, 1]", r"metrics\.m\.range: \[2, 1\] has no number in it"),
        ("mean_over: {parts: classes}", r"metrics\.m\.mean_over: values is missing"),
        ("suspect: {value: 0}", r"metrics\.m\.suspect: means is missing"),
        ("suspect: {value: zero, means: x}", r"metrics\.m\.suspect\.value: must be a number"),
    ],
)
def test_a_manifest_names_what_is_wrong_with_a_metric(tmp_path, entry, message):
    text = f"metrics:\n  m:\n    goal: max\n    {entry}\n"
    folder = write_experiment(tmp_path / "toy", manifest=text)
    with pytest.raises(StudyError, match=message):
        read_experiment(folder.name, tmp_path)
