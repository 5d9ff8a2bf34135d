"""Learning rates against torch's own schedulers, stepped once for each optimiser step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from support.tiny_training import TinyOptions, TinyRun
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
)

from experiments.runtime.options import OptimiserOptions, RuntimeOptions
from experiments.runtime.stages import Stage, Timetable
from merge.errors import UsageError

EPOCHS, STEPS = 6, 5
NUM_STEPS = EPOCHS * STEPS
LR = 0.3

Make = Callable[[torch.optim.Optimizer], LRScheduler]


def warmed_up(after: Callable[[torch.optim.Optimizer, int], LRScheduler]) -> Make:
    def make(optimizer: torch.optim.Optimizer) -> LRScheduler:
        rise = LinearLR(optimizer, start_factor=0.1, total_iters=STEPS)
        return SequentialLR(optimizer, [rise, after(optimizer, NUM_STEPS - STEPS)], [STEPS])

    return make


CASES: dict[str, tuple[dict[str, object], Make]] = {
    "poly": ({}, lambda o: PolynomialLR(o, NUM_STEPS, power=0.9)),
    "cosine": ({"schedule": "cosine"}, lambda o: CosineAnnealingLR(o, NUM_STEPS)),
    "multistep": (
        {"schedule": "multistep", "milestones": (2, 4), "gamma": 0.2},
        lambda o: MultiStepLR(o, [2 * STEPS, 4 * STEPS], gamma=0.2),
    ),
    "onecycle": (
        {"schedule": "onecycle"},
        lambda o: OneCycleLR(o, LR, total_steps=NUM_STEPS, cycle_momentum=False),
    ),
    "onecycle with its own rise": (
        {"schedule": "onecycle", "warmup_epochs": 3, "warmup_factor": 0.1},
        lambda o: OneCycleLR(
            o, LR, total_steps=NUM_STEPS, pct_start=0.5, div_factor=10, cycle_momentum=False
        ),
    ),
    "warm-up and poly": (
        {"poly_power": 1.0, "warmup_epochs": 1, "warmup_factor": 0.1},
        warmed_up(lambda o, rest: PolynomialLR(o, rest, power=1.0)),
    ),
    "warm-up and cosine": (
        {"schedule": "cosine", "warmup_epochs": 1, "warmup_factor": 0.1},
        warmed_up(CosineAnnealingLR),
    ),
    "warm-up and multistep": (
        {
            "schedule": "multistep",
            "milestones": (3,),
            "warmup_epochs": 1,
            "warmup_factor": 0.1,
        },
        lambda o: ChainedScheduler(
            [LinearLR(o, start_factor=0.1, total_iters=STEPS), MultiStepLR(o, [3 * STEPS])]
        ),
    ),
    "warm-up and constant": (
        {"schedule": "constant", "warmup_epochs": 1, "warmup_factor": 0.1},
        lambda o: LinearLR(o, start_factor=0.1, total_iters=STEPS),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:The epoch parameter in")
def test_rates_are_those_of_torchs_scheduler_after_each_optimiser_step(case):
    words, make = CASES[case]
    options = OptimiserOptions(lr=LR, **words)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = make(optimizer)
    theirs = []
    for _ in range(NUM_STEPS):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = [options.rate(step, NUM_STEPS, STEPS) for step in range(NUM_STEPS)]
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("num_steps", range(1, 8))
def test_a_onecycle_of_few_steps_has_finite_rates_up_to_lr(num_steps):
    options = OptimiserOptions(lr=1.0, schedule="onecycle")
    rates = [options.rate(step, num_steps) for step in range(num_steps)]
    assert all(0 < rate <= 1 for rate in rates)


def test_a_onecycle_whose_one_step_is_its_rise_has_the_highest_rate():
    options = OptimiserOptions(lr=1.0, schedule="onecycle", warmup_epochs=0.6)
    assert options.rate(0, 1, 1) == 1.0
    assert options.rate(0, 2, 1) == 1.0


def test_the_rate_counts_optimiser_steps_and_not_the_parts_of_a_batch(tmp_path):
    """An epoch has 4 steps of 3 parts: stepped for each part, the schedule would end 3 times."""
    options = TinyOptions(
        runtime=RuntimeOptions(epochs=2, global_batch=3, tensorboard=False),
        optimiser=OptimiserOptions(lr=1.0, schedule="cosine"),
    )
    trainer = TinyRun(tmp_path, options).attempt(num_items=12)
    rates = []
    learner = trainer._setup.learner
    step = learner.step
    learner.step = lambda *words, lr, **more: rates.append(lr) or step(*words, lr=lr, **more)  # type: ignore[func-returns-value, method-assign]
    trainer.fit()
    assert rates == [options.optimiser.rate(at, 8) for at in range(8)]
    assert all(after < before for before, after in pairwise(rates))


def test_a_warm_up_as_long_as_its_stage_is_refused_with_both_lengths():
    with pytest.raises(UsageError, match="warmup_epochs=3 must be less than the 3 epochs of stage"):
        Stage(epochs=3, optimiser=OptimiserOptions(warmup_epochs=3))


def test_values_that_do_not_go_together_are_refused():
    with pytest.raises(UsageError, match="multistep without milestones"):
        OptimiserOptions(schedule="multistep")
    with pytest.raises(UsageError, match="nesterov is for optimizer=sgd"):
        OptimiserOptions(optimizer="adamw", nesterov=True)


def test_the_rate_of_a_step_needs_no_optimiser_and_begins_anew_in_each_stage():
    first = OptimiserOptions(lr=1.0, schedule="cosine")
    second = OptimiserOptions(lr=0.5, schedule="constant", warmup_epochs=1, warmup_factor=0.1)
    stages = Timetable(
        [Stage(name="a", epochs=2, optimiser=first), Stage(name="b", epochs=2, optimiser=second)],
        epochs=4,
    )
    rates = [stages.rate(step, 3) for step in range(12)]
    assert rates[:6] == [first.rate(step, 6, 3) for step in range(6)]
    assert rates[6:] == [second.rate(step, 6, 3) for step in range(6)]
    assert rates[6] == pytest.approx(0.05)
