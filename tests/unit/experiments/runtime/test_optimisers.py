"""Parameter groups: which parameters are in them, with which rate and weight decay."""

from __future__ import annotations

import pytest
from torch import nn

from experiments.runtime.optimisers import build_optimiser
from experiments.runtime.options import OptimiserOptions
from experiments.runtime.stages import ParameterGroup, Stage, set_trained_parts


def model() -> nn.Module:
    parts = {"encoder": nn.Linear(2, 2), "norm": nn.LayerNorm(2), "head": nn.Linear(2, 1)}
    return nn.ModuleDict(parts)


def rates_and_decays(of: nn.Module, stage: Stage, lr: float) -> dict[str, tuple[float, float]]:
    optimiser = build_optimiser(of, stage)
    optimiser.set_rate(lr)
    names = {id(parameter): name for name, parameter in of.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimiser.torch.param_groups
        for parameter in group["params"]
    }


def test_the_rest_of_the_model_has_the_rate_of_the_stage_and_a_group_its_own():
    stage = Stage(
        epochs=1,
        optimiser=OptimiserOptions(weight_decay=0.5),
        groups=(ParameterGroup(parts=("head",), rate_factor=10.0, weight_decay=0.0),),
    )
    found = rates_and_decays(model(), stage, lr=0.1)
    assert found["head.weight"] == found["head.bias"] == (1.0, 0.0)
    others = {name: each for name, each in found.items() if not name.startswith("head")}
    assert set(others.values()) == {(0.1, 0.5)}
    assert len(others) == 4


def test_norms_and_biases_may_be_left_without_weight_decay():
    options = OptimiserOptions(weight_decay=0.5, decay_norms_and_biases=False)
    found = rates_and_decays(model(), Stage(epochs=1, optimiser=options), lr=0.1)
    assert {name for name, (_, decay) in found.items() if decay} == {
        "encoder.weight",
        "head.weight",
    }
    assert len(found) == 6


def test_a_group_that_rests_in_its_stage_is_left_out():
    stage = Stage(
        epochs=1,
        optimiser=OptimiserOptions(),
        trains=("encoder",),
        groups=(ParameterGroup(parts=("head",), rate_factor=10.0),),
    )
    ours = model()
    set_trained_parts(ours, stage, [name for name, _ in ours.named_parameters()])
    assert set(rates_and_decays(ours, stage, lr=0.1)) == {"encoder.weight", "encoder.bias"}


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((("haed",),), "a parameter group names 'haed'.*its parts are encoder, norm, head"),
        ((("head",), ("head.bias",)), "'head.bias' lies in two parameter groups"),
    ],
)
def test_groups_that_do_not_fit_the_model_are_refused(groups, message):
    made = tuple(ParameterGroup(parts=parts) for parts in groups)
    with pytest.raises(ValueError, match=message):
        build_optimiser(model(), Stage(epochs=1, optimiser=OptimiserOptions(), groups=made))


def test_one_group_without_any_is_what_torch_makes_itself():
    (group,) = build_optimiser(
        model(), Stage(epochs=1, optimiser=OptimiserOptions())
    ).torch.param_groups
    assert len(group["params"]) == 6
