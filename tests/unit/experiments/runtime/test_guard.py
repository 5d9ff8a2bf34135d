"""A run whose model is destroyed has no number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from support.tiny_training import ALONE, TinyOptions, TinyRun
from torch import nn

from experiments.runtime.entry import NonFiniteError
from experiments.runtime.finite import is_finite, require_finite
from experiments.runtime.guard import Guard
from experiments.runtime.options import OptimiserOptions, RuntimeOptions


@dataclass
class Pair:
    predicted: int
    loss: float


def test_one_bad_loss_is_named_by_its_step():
    guard = Guard(ALONE)
    for step, loss in enumerate([1.0, float("inf"), float("nan"), 1.0], start=1):
        guard.note("loss", torch.tensor(loss), step)
    guard.note("gradient", torch.tensor(float("nan")), 3)
    assert not guard.is_alarmed
    guard.look()
    assert guard.is_alarmed
    with pytest.raises(NonFiniteError, match="the loss became NaN or infinite at step 2:"):
        guard.check()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_a_bad_weight_or_statistic_is_found_among_good_ones(name, value):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    trainable = [name for name, _ in model.named_parameters()]
    Guard(ALONE).check_model(model, trainable, 5)
    with torch.no_grad():
        model.state_dict()[name].view(-1)[1] = value
    with pytest.raises(NonFiniteError, match="the model became NaN or infinite at step 5:"):
        Guard(ALONE).check_model(model, trainable, 5)


def test_constants_that_are_infinite_by_intent_are_no_damage():
    model = nn.Linear(1, 1)
    model.register_buffer("mask", torch.tensor([float("-inf")]))
    Guard(ALONE).check_model(model, ["weight", "bias"], 1)


def test_a_gradient_that_destroys_the_weights_in_the_last_step_leaves_no_number(tmp_path):
    """The loss of each step is finite: without a look at the weights the run would be `done`."""
    trainer = TinyRun(tmp_path, TinyOptions(runtime=RuntimeOptions(tensorboard=False))).attempt()
    task = trainer._setup.task
    loss = task.loss

    def destroyed(output, batch):
        terms = loss(output, batch)
        if trainer.global_step == 2:
            terms[0].value.register_hook(lambda gradient: gradient * float("nan"))
        return terms

    task.loss = destroyed  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match="the model became NaN or infinite at step 3:"):
        trainer.fit()
    assert not TinyRun(tmp_path).paths.last_checkpoint.exists()


def test_a_bad_gradient_is_named_where_its_norm_is_known(tmp_path):
    options = TinyOptions(
        runtime=RuntimeOptions(clip_norm=1.0, tensorboard=False),
        optimiser=OptimiserOptions(lr=0.1),
    )
    trainer = TinyRun(tmp_path, options).attempt()
    task = trainer._setup.task
    loss = task.loss

    def destroyed(output, batch):
        terms = loss(output, batch)
        terms[0].value.register_hook(lambda gradient: gradient * float("inf"))
        return terms

    task.loss = destroyed  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match="the gradient became NaN or infinite at step 1:"):
        trainer.fit()


def with_fp16_scaler(tmp_path, bad_steps: set[int], init_scale: float) -> TinyRun:
    """A run with a loss scaler, as of fp16, whose gradient is infinite in `bad_steps`."""
    options = TinyOptions(
        runtime=RuntimeOptions(epochs=2, clip_norm=1.0, tensorboard=False),
        optimiser=OptimiserOptions(lr=0.1),
    )
    run = TinyRun(tmp_path, options)
    trainer = run.attempt()
    trainer._setup.learner._scaler = torch.amp.GradScaler("cpu", init_scale=init_scale)
    task = trainer._setup.task
    loss = task.loss

    def overflowing(output, batch):
        terms = loss(output, batch)
        if trainer.global_step in bad_steps:
            terms[0].value.register_hook(lambda gradient: gradient * float("inf"))
        return terms

    task.loss = overflowing  # type: ignore[method-assign]
    trainer.fit()
    return run


def test_fp16_may_leave_out_a_step_whose_gradient_overflows(tmp_path):
    """Its first steps often do: a run that clips would end there."""
    run = with_fp16_scaler(tmp_path, {0, 4}, init_scale=2.0**16)
    state = torch.load(run.paths.last_checkpoint, weights_only=True)
    assert state["scaler"]["scale"] == 2.0**14
    assert all(torch.isfinite(each).all() for each in state["model"].values())


def test_fp16_that_leaves_out_every_step_leaves_no_number(tmp_path):
    with pytest.raises(NonFiniteError, match="the gradient became NaN or infinite at step 3:"):
        with_fp16_scaler(tmp_path, set(range(6)), init_scale=2.0**-12)


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (np.array([True]), True),
        (torch.tensor([3]), True),
        ({"scores": [torch.tensor([0.5]), 2.0], "name": "a"}, True),
        ({"scores": [torch.tensor([0.5, float("inf")])]}, False),
        ((np.array([np.nan], np.float32), 1), False),
        (float("nan"), False),
        (Pair(1, 2.0), True),
        (Pair(1, float("inf")), False),
    ],
)
def test_predictions_of_any_kind_are_looked_through(prediction, expected):
    assert is_finite(prediction) is expected


def test_a_prediction_that_is_no_number_leaves_no_result(tmp_path):
    """A finite model may overflow; a mask made from NaN is empty, and that has a score."""
    trainer = TinyRun(tmp_path).attempt()
    task = trainer._setup.task
    task.predict = lambda *_: torch.tensor(float("nan" if trainer.progress.epoch == 1 else 1))  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match="a prediction for the list 'test' is NaN or infinite"):
        trainer.fit()


def test_a_task_may_look_at_what_it_makes_its_predictions_from(tmp_path):
    trainer = TinyRun(tmp_path).attempt()
    task = trainer._setup.task
    task.predict = lambda *_: require_finite(torch.tensor(float("nan")), "the logits") > 0  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match="a prediction for the list 'test' is NaN or infinite"):
        trainer.fit()
