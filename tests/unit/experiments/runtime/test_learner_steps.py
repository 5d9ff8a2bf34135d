"""Optimiser steps: batches in parts, clipping, whatever the size of a part."""

from __future__ import annotations

import pytest
import torch
from support.tiny_training import ALONE, TinyOptions, TinyRun
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from experiments.runtime.learner import Learner
from experiments.runtime.options import OptimiserOptions, RuntimeOptions
from experiments.runtime.precision import Precision
from experiments.runtime.task import Term

BATCH = torch.tensor([[1.0], [2.0], [4.0], [8.0], [16.0]])


def step(tmp_path, micro_batch: int, **runtime: float) -> tuple[Learner, Tensor, Tensor]:
    """A learner after one step of SGD with rate 1, its gradient, and that of the mean loss."""
    options = TinyOptions(
        runtime=RuntimeOptions(epochs=3, tensorboard=False, **runtime),  # type: ignore[arg-type]
        optimiser=OptimiserOptions(lr=1.0, momentum=0.0, weight_decay=0.0),
    )
    task = TinyRun(tmp_path / str(micro_batch), options).attempt()._setup.task
    task.loss = lambda output, batch: [Term(mse_loss(output, 3 * batch), "items")]  # type: ignore[method-assign]
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    whole = mse_loss(model(BATCH), 3 * BATCH)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(whole, model.parameters())])
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    stage = task.stages()[0]
    precision = Precision("off", ALONE.device)
    learner = Learner(task, model, ALONE, precision, stage, micro_batch=micro_batch)
    loss = learner.step(BATCH, shares_of_rank={"items": 1.0}, lr=1.0)
    assert float(loss) == pytest.approx(whole.item(), rel=1e-6)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    return learner, before - after, expected


@pytest.mark.parametrize("micro_batch", [0, 1, 2, 3, 5])
def test_the_last_shorter_part_of_a_batch_weighs_by_its_own_length(tmp_path, micro_batch):
    """Five items in parts of 2, 2 and 1: divided by the full length, the last would count twice."""
    _, gradient, expected = step(tmp_path, micro_batch)
    assert gradient == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("micro_batch", [0, 2])
def test_the_gradient_of_the_whole_batch_is_clipped_and_not_that_of_its_parts(
    tmp_path, micro_batch
):
    learner, gradient, expected = step(tmp_path, micro_batch, clip_norm=10.0)
    assert learner.gradient_norm is not None
    assert float(learner.gradient_norm) == pytest.approx(float(expected.norm()), rel=1e-5)
    assert float(expected.norm()) > 100
    assert gradient == pytest.approx(expected * 10 / expected.norm(), rel=1e-4)


def test_a_gradient_below_the_limit_is_not_changed(tmp_path):
    _, gradient, expected = step(tmp_path, 0, clip_norm=1e6)
    assert gradient == pytest.approx(expected, rel=1e-5)


def test_items_left_over_at_an_epochs_end_wait_for_another_epoch(tmp_path):
    """7 items, 3 in a step: two full steps an epoch, and no step of one item that weighs as 3."""
    options = TinyOptions(runtime=RuntimeOptions(epochs=9, global_batch=3, tensorboard=False))
    trainer = TinyRun(tmp_path, options).attempt(num_items=7)
    seen: list[list[int]] = []
    forward = trainer._setup.task.forward
    trainer._setup.task.forward = (  # type: ignore[method-assign]
        lambda model, batch: seen.append(batch.flatten().tolist()) or forward(model, batch)  # type: ignore[func-returns-value]
    )
    trainer.fit()
    items = [item for part in seen for item in part]
    assert len(items) == 9 * 2 * 3
    assert trainer.global_step == 9 * 2
    assert set(items) == set(range(7))


def test_norms_in_events(tmp_path):
    options = TinyOptions(runtime=RuntimeOptions(epochs=1, clip_norm=1.0, tensorboard=False))
    run = TinyRun(tmp_path, options)
    run.attempt().fit()
    text = (run.folder / "attempts" / "0001" / "events.jsonl").read_text()
    assert '"grad_norm": ' in text
