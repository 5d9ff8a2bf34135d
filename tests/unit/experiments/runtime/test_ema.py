"""The moving average of the weights: which model is tested, kept, saved and goes on."""

from __future__ import annotations

import pytest
import torch
from support.tiny_training import TinyOptions, TinyRun
from torch import nn

from experiments.runtime.ema import MovingAverage
from experiments.runtime.options import OptimiserOptions, RuntimeOptions
from experiments.runtime.stop import Stopped

DECAY = 0.6


def options(**more: object) -> TinyOptions:
    runtime = RuntimeOptions(epochs=3, ema_decay=DECAY, tensorboard=False, **more)  # type: ignore[arg-type]
    return TinyOptions(runtime=runtime, optimiser=OptimiserOptions(lr=0.1))


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in {**one, **other})


def test_the_decay_warms_up_and_then_is_the_one_that_is_set():
    weight = torch.zeros(1)
    average = MovingAverage({"w": weight}, 0.5)
    expected, decays = 0.0, []
    for step in range(1, 12):
        weight.fill_(float(step))
        average.update()
        decays.append(min(0.5, (1 + step) / (10 + step)))
        expected = decays[-1] * expected + (1 - decays[-1]) * step
        assert float(average.model_state()["w"]) == pytest.approx(expected, rel=1e-6)
    assert decays[0] < 0.2
    assert decays[-1] == 0.5


def test_statistics_are_averaged_counters_copied_and_tied_weights_exchanged_once():
    norm = nn.BatchNorm1d(2)
    state = {**norm.state_dict(), "tied": norm.state_dict()["weight"]}
    average = MovingAverage(state, 0.5)
    with torch.no_grad():
        norm(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
        norm.weight.fill_(3.0)
    average.update()
    own = {name: each.clone() for name, each in state.items()}
    averaged = {name: each.clone() for name, each in average.model_state().items()}
    assert int(averaged["num_batches_tracked"]) == 1
    assert not torch.equal(averaged["running_mean"], own["running_mean"])
    with average.exchanged():
        assert equal(norm.state_dict(), {k: v for k, v in averaged.items() if k != "tied"})
    assert equal(state, own)
    assert equal(average.model_state(), averaged)
    assert torch.equal(averaged["tied"], averaged["weight"])


def test_empty_tensors_keep_their_shapes():
    """All of them have the same address, as tied parameters have."""
    state = {"a": torch.zeros(0), "b": torch.zeros(0, 3), "w": torch.ones(2)}
    average = MovingAverage(state, 0.5)
    average.update()
    assert {name: each.shape for name, each in average.model_state().items()} == {
        name: each.shape for name, each in state.items()
    }


def test_what_rests_stays_equal_to_the_last_bit():
    weight = torch.tensor([1 / 3, 1e-30, 7e8])
    average = MovingAverage({"w": weight}, 0.9)
    for _ in range(50):
        average.update()
    assert torch.equal(average.model_state()["w"], weight)


def test_the_averaged_weights_are_tested_kept_as_best_and_saved(tmp_path):
    """Raw weights in best.pt would not reproduce the metric that is recorded with them."""
    run = TinyRun(tmp_path, options())
    trainer = run.attempt(scores={1: 1.0, 2: 3.0, 3: 2.0})
    trainer.fit()
    measured = trainer._setup.task.measured  # type: ignore[attr-defined]
    raw = {name: each.clone() for name, each in trainer._setup.learner.model.state_dict().items()}
    assert not equal(raw, measured[3])
    best = torch.load(run.paths.best_checkpoint, weights_only=True)
    last = torch.load(run.paths.last_checkpoint, weights_only=True)
    assert equal(best["model"], measured[2])
    assert equal(last["best"]["model"], measured[2])
    assert equal(last["model"], raw)
    assert equal(last["average"], measured[3])
    trainer._setup.learner.finish()
    assert equal(trainer._setup.learner.model.state_dict(), measured[3])


def test_the_best_and_present_model_is_written_once_and_read_as_the_average(tmp_path):
    run = TinyRun(tmp_path, options())
    first = run.attempt(scores={1: 1.0, 2: 2.0, 3: 3.0})
    first.fit()
    again = run.attempt()
    again._restore()
    learner = again._setup.learner
    assert equal(learner.model.state_dict(), first._setup.learner.model.state_dict())
    assert equal(learner.tested_state(), first._setup.task.measured[3])  # type: ignore[attr-defined]
    assert not equal(learner.tested_state(), learner.model.state_dict())


@pytest.mark.parametrize("at", [1, 6])
def test_a_run_that_stopped_anywhere_goes_on_bit_for_bit(tmp_path, at):
    whole = TinyRun(tmp_path / "whole", options())
    whole.attempt().fit()
    run = TinyRun(tmp_path / "stopped", options(checkpoint_every_steps=1))
    stopped = run.attempt()
    step = stopped._step

    def stop_after(*words):
        step(*words)
        if stopped.global_step == at:
            raise Stopped

    stopped._step = stop_after  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        stopped.fit()
    run.attempt().fit()
    ours, theirs = (
        torch.load(each.paths.last_checkpoint, weights_only=True) for each in (run, whole)
    )
    for name in ("model", "average"):
        assert equal(ours[name], theirs[name])
    assert ours["num_averaged"] == theirs["num_averaged"] == 9
