"""A metric's range, and names that sound like a loss."""

from __future__ import annotations

import pytest

from merge.records.metrics import (
    Metric,
    metric_from_json,
    range_text,
    read_range,
    suggests_lower_is_better,
)


@pytest.mark.parametrize(
    ("metric", "value", "is_possible"),
    [
        (Metric(name="miou", unit="percent"), 0.663, True),
        (Metric(name="miou", unit="percent"), 66.3, False),
        (Metric(name="miou", unit="percent"), -0.3, False),
        (Metric(name="miou", unit="percent"), 1.0000000000000002, True),
        (Metric(name="gain", unit="percent", range=(-1.0, None)), 66.3, True),
        (Metric(name="kappa", range=(-1.0, 1.0)), -1.1, False),
        (Metric(name="loss", range=(0.0, None)), -0.1, False),
        (Metric(name="nss"), -66.3, True),
    ],
)
def test_a_number_is_held_to_the_range_of_its_metric(metric, value, is_possible):
    assert (metric.out_of_range(value) == "") is is_possible


def test_percent_written_for_a_fraction_is_named():
    assert Metric(name="miou", unit="percent").out_of_range(66.3) == (
        "66.3 is outside of the metric's range, 0 to 1: a metric in percent is stored as a "
        "fraction, 0.663 for 66.3 %"
    )


@pytest.mark.parametrize(
    "value", [5, [0], [0, 1, 2], [1, 0], [1, 1], [True, 2], ["0", 1], [0, float("nan")], "01"]
)
def test_what_is_no_range_is_refused(value):
    with pytest.raises(ValueError, match=r"form \[low, high\]|has no number in it|not a number"):
        read_range(value)


def test_an_end_of_a_range_may_be_open():
    texts = [range_text(read_range(ends)) for ends in ([0, None], [None, 1], [0, 1], [None, None])]
    assert texts == ["at least 0", "at most 1", "0 to 1", "any number"]


def test_what_a_manifest_declares_is_read_as_it_was_written():
    document = {
        "unit": "percent",
        "goal": "max",
        "help": "",
        "range": [0.0, None],
        "mean_over": {"parts": "classes", "values": "by_class"},
        "suspect": {"value": 0.0, "means": "nothing was found"},
    }
    assert metric_from_json("m", document).to_json() == document
    # Plans without these keys keep their bytes.
    assert list(Metric(name="m").to_json()) == ["unit", "goal", "help"]


@pytest.mark.parametrize(
    "name",
    [
        *("loss", "val_loss", "valLoss", "test/loss", "crossentropy_loss", "top1-error", "MAE"),
        *("rmse", "perplexity", "wer", "NLL", "eval.kl", "latency_ms", "FID", "val_ppl"),
    ],
)
def test_a_name_that_sounds_like_a_loss_is_known(name):
    assert suggests_lower_is_better(name)


@pytest.mark.parametrize(
    "name", ["miou", "accuracy", "nss", "score", "f1", "auc", "glossary", "mirror", "offset", "map"]
)
def test_other_names_are_larger_is_better(name):
    assert not suggests_lower_is_better(name)
