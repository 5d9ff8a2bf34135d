"""The YAML files of an experiment are held against its code before it trains."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.runtime.declared import check_options_file, read_declared_metrics
from experiments.runtime.entry import NonFiniteError
from experiments.runtime.experiment import EXPERIMENTS, Experiment
from experiments.runtime.learner import weighted_sum
from experiments.runtime.task import Selection, Term
from merge.errors import UsageError

FEWSHOT = Experiment("fewshot", EXPERIMENTS / "fewshot", "experiments.fewshot")
METRICS = {"offset": 1.5, "hits": 0.5}
LEAST_OFFSET = Selection("offset", "min")


@pytest.fixture
def declared():
    folder = Path(__file__).resolve().parents[4] / "examples" / "blobs"
    return read_declared_metrics(Experiment("blobs", folder, "blobs"), "hits")


def test_metrics_as_the_manifest_declares_them_are_taken(declared):
    declared.check_selection(LEAST_OFFSET)
    metrics = declared.check({"offset": np.float64(1.5), "hits": 1}, LEAST_OFFSET)
    assert metrics == {"offset": 1.5, "hits": 1.0}
    assert {type(value) for value in metrics.values()} == {float}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({**METRICS, "hitz": 1.0}, "returns 'hitz', which .* not declare: did you mean 'hits'"),
        ({"offset": 1.0}, "does not return 'hits', which the study shows; it returns offset"),
        ({"hits": 1.0}, "does not return 'offset', which chooses the best epoch"),
        ({**METRICS, "hits": "all"}, "'hits' must be a number, not 'all'"),
        (None, "must return a dict of numbers, not None"),
    ],
)
def test_other_metrics_are_refused_by_name(declared, metrics, message):
    with pytest.raises(UsageError, match=message):
        declared.check(metrics, LEAST_OFFSET)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_is_not_finite_is_named(declared, value):
    with pytest.raises(NonFiniteError, match=f"metric 'hits' is {value}: a result holds finite"):
        declared.check({**METRICS, "hits": value}, LEAST_OFFSET)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (None, "the task has no selection: write `selection = Selection"),
        (Selection("offst", "min"), "selection names 'offst', .* did you mean 'offset'"),
        (Selection("offset", "max"), "takes the max of 'offset', and .* says goal: min"),
    ],
)
def test_a_selection_that_the_manifest_contradicts_is_refused(declared, selection, message):
    with pytest.raises(UsageError, match=message):
        declared.check_selection(selection)


LOADER_TIMEOUT = """\
loader_timeout_s:
  type: float
  default: 600.0
  min: 0
  decides_numbers: false
  help: Seconds that a step waits for its loader processes before the run fails; 0 has no limit.
"""


@pytest.mark.parametrize(
    ("old", "new", "is_refused"),
    [
        ("epochs:\n  type: int\n  default: 250", "epochs:\n  type: int\n  default: 999", True),
        ("\nepochs:", "\nheight: {type: int, default: 1}\nepochs:", True),
        ("help: Training epochs.", "help: Passes.", False),
        ("# ", "#  ", False),
        # From before papergrid had the option, on which no number depends.
        (LOADER_TIMEOUT, "", False),
        (LOADER_TIMEOUT, LOADER_TIMEOUT.replace("600.0", "60.0"), True),
    ],
)
def test_an_options_file_that_is_older_than_the_code_is_refused(tmp_path, old, new, is_refused):
    shutil.copy(FEWSHOT.folder / "options.yaml", tmp_path)
    text = (tmp_path / "options.yaml").read_text()
    assert old in text
    (tmp_path / "options.yaml").write_text(text.replace(old, new, 1))
    experiment = Experiment("fewshot", tmp_path, FEWSHOT.package)
    if is_refused:
        with pytest.raises(UsageError, match=f"write_options {tmp_path}/"):
            check_options_file(experiment)
    else:
        check_options_file(experiment)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (torch.tensor(1.0), "must return a list of terms, .*; found: Tensor"),
        (Term(torch.tensor(1.0), "items"), "must return a list of terms, .*; found: Term"),
        ([torch.tensor(1.0)], "must return a list of terms, .*; found: Tensor"),
        ([Term(torch.tensor(1.0), "item")], "mean over 'item', which .* did you mean 'items'"),
    ],
)
def test_a_loss_in_a_wrong_form_is_refused(terms, message):
    with pytest.raises(UsageError, match=message):
        weighted_sum(terms, {"items": 1.0})
