"""How far a run is: the best evaluation, and what travels through a checkpoint."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from experiments.runtime.meter import LossMeter
from experiments.runtime.progress import Evaluation, Progress
from experiments.runtime.task import Selection

CPU = torch.device("cpu")


def evaluation(epoch: int, value: float) -> Evaluation:
    return Evaluation(epoch, {"loss": value}, {"test": np.array([[epoch, 7]], np.int64)})


@pytest.mark.parametrize(
    ("goal", "marks", "best"),
    [("max", [True, True, False, False], 1), ("min", [True, False, False, True], 3)],
)
def test_the_best_evaluation_is_the_earliest_of_the_best(goal, marks, best):
    progress = Progress()
    values = enumerate([3, 5, 5, 2])
    recorded = [progress.record(evaluation(e, v), Selection("loss", goal)) for e, v in values]
    assert recorded == marks
    assert (progress.reported("best").epoch, progress.reported("final").epoch) == (best, 3)


def test_progress_travels_through_a_file_that_holds_tensors_and_plain_values_alone():
    progress = Progress(epoch=2, step=3, untrained=evaluation(0, 1.0))
    progress.record(evaluation(2, 0.5), Selection("loss", "min"))
    progress.history.append({"epoch": 1, "loss": 0.5})
    file = io.BytesIO()
    torch.save(progress.to_state(), file)
    file.seek(0)
    again = Progress.from_state(torch.load(file, weights_only=True))
    assert (again.epoch, again.step, again.history) == (2, 3, [{"epoch": 1, "loss": 0.5}])
    for name, kept in progress.evaluations().items():
        other = again.evaluations()[name]
        assert other.summary() == kept.summary()
        assert other.states["test"].tolist() == kept.states["test"].tolist()


def test_a_meter_goes_on_from_a_saved_sum():
    meter = LossMeter(CPU)
    meter.reset(2.5)
    meter.add(torch.tensor(0.25))
    assert meter.sum == 2.75
