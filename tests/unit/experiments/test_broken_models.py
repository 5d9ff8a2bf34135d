"""A model that returns NaN or an infinite number has no prediction, in any experiment.

A class, a mask or a grey value that is made from NaN looks like any other, and has a score.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.camouflage.task import _grey_map
from experiments.dense.models.detection import build_detection
from experiments.dense.options import Options
from experiments.dense.tasks.segmentation import SegmentationTask
from experiments.imagenet.task import _scored
from experiments.runtime.entry import NonFiniteError
from experiments.runtime.finite import is_finite
from experiments.runtime.options import build

CPU = torch.device("cpu")


def logits(bad: float) -> torch.Tensor:
    made = torch.zeros(1, 3, 4, 4)
    made[0, 1, 2, 2] = bad
    return made


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_class_of_each_pixel_is_made_from_numbers_alone(bad: float) -> None:
    task: Any = None
    item: Any = SimpleNamespace(image=torch.zeros(3, 4, 4))
    model: Any = lambda _images: {"out": logits(bad)}  # noqa: E731
    with pytest.raises(NonFiniteError, match="a logit"):
        SegmentationTask.predict(task, model, item, CPU)


@pytest.mark.parametrize("model", ["faster_rcnn", "retinanet"])
def test_a_detector_finds_no_box_in_a_map_of_nan_and_says_so(model: Any) -> None:
    values = {"model": model, "backbone": "tiny", "short_side": 32, "num_proposals": 4}
    detector = build_detection(build(Options, {"task": "detection", **values}), 3, None).eval()
    detector([torch.zeros(3, 32, 32)])
    with torch.no_grad():
        next(iter(detector.net.backbone.fpn.parameters())).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="a box or its score"):
        detector([torch.zeros(3, 32, 32)])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_grey_map_is_made_from_numbers_alone(bad: float) -> None:
    with pytest.raises(NonFiniteError, match="a logit"):
        _grey_map(logits(bad)[0, 1:2], (8, 8))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_class_of_an_image_is_made_from_numbers_alone(bad: float) -> None:
    good, broken = _scored(torch.tensor([[0.0, 1.0], [0.0, bad]]), torch.tensor([0, 0]))
    assert is_finite(good)
    assert not is_finite(broken)
