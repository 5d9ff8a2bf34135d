"""The method `abcb` as a model: loss terms, ablations, invariances, empty and full sets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.abcb import balance
from support.fewshot import new_method
from torch import Tensor, nn

from experiments.backbones.build import build_backbone
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.abcb.tokens import Tokens
from experiments.fewshot.models.base import Output
from experiments.fewshot.models.losses import segmentation_loss
from experiments.fewshot.options import AbcbOptions

SIDE, CELLS = 48, 6


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    return build_backbone("efficientnet_lite0", levels=(2, 3))


def _model(backbone: nn.Module, **options: Any) -> Abcb:
    torch.manual_seed(options.pop("seed", 0))
    # Not the start as a comparison, with which the later iterations do nothing yet.
    defaults = {"channels": 16, "num_heads": 2, "initialisation": "random", "neck_dropout": 0.0}
    # The convolution neck is quicker; what crosses a neck is tested with the other one too.
    defaults |= {"prior_levels": "3", "feature_levels": "2,3", "neck": "convolution"}
    return Abcb(backbone, AbcbOptions(**{**defaults, **options}))  # type: ignore[arg-type]


def _episode(batch: int = 2, shots: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch * 10 + shots)
    images = torch.rand(batch, shots + 1, 3, SIDE, SIDE, generator=generator) * 255
    mask = torch.zeros(batch, shots, SIDE, SIDE, dtype=torch.uint8)
    for b in range(batch):
        for k in range(shots):
            mask[b, k, 8 * k : 8 * k + 16 + 8 * b, 8:40] = 1
    return images[:, 0], images[:, 1:], mask


def _target(batch: int) -> Tensor:
    target = torch.zeros(batch, SIDE, SIDE, dtype=torch.uint8)
    target[:, 10:30, 10:30] = 1
    return target


def _balance(model: Abcb, *episode: Tensor) -> None:
    with torch.no_grad():
        balance(model, model(*episode))


def _predict_only(model: Abcb, label: int) -> None:
    with torch.no_grad():
        model.qp.classify.bias.copy_(torch.tensor([-100.0, 100.0]) * (1 if label else -1))


def _same(first: Output, second: Output) -> None:
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-3, atol=3e-4)
    for (a, weight), (b, other) in zip(first.auxiliary, second.auxiliary, strict=True):
        assert weight == other
        torch.testing.assert_close(a, b, rtol=1e-3, atol=3e-4)


@pytest.mark.parametrize("rounds", [1, 2, 3, 5])
def test_the_loss_has_one_term_per_prediction_and_one_per_modulation(
    backbone: nn.Module, rounds: int
) -> None:
    output = _model(backbone, iterations=rounds)(*_episode())
    weights = [weight for _, weight in output.auxiliary]
    assert weights == [1.0] * (rounds - 1) + [0.2] * (rounds - 1)
    shapes = {logits.shape for logits, _ in output.auxiliary} | {output.logits.shape}
    assert shapes == {(2, 2, CELLS, CELLS)}


def test_one_iteration_is_the_baseline_path(backbone: nn.Module) -> None:
    baseline = _model(backbone, iterations=1)
    full = _model(backbone, iterations=3, seed=1)
    missing, unexpected = full.load_state_dict(baseline.state_dict(), strict=False)
    assert not unexpected
    assert {name.partition(".")[0] for name in missing} == {"sm", "ic"}
    output = full(*_episode())
    torch.testing.assert_close(output.auxiliary[0][0], baseline(*_episode()).logits)
    assert not torch.equal(output.auxiliary[0][0], output.logits)


def test_an_iteration_uses_the_same_weights_as_the_one_before(backbone: nn.Module) -> None:
    three, five = (_model(backbone, iterations=rounds) for rounds in (3, 5))
    assert {n: p.shape for n, p in three.named_parameters()} == {
        n: p.shape for n, p in five.named_parameters()
    }
    torch.testing.assert_close(five(*_episode()).auxiliary[2][0], three(*_episode()).logits)


@pytest.mark.parametrize("shots", [1, 3])
def test_an_episode_does_not_depend_on_the_others_in_its_batch(
    backbone: nn.Module, shots: int
) -> None:
    model, episode = _model(backbone, neck="correlation"), _episode(batch=3, shots=shots)
    _balance(model, *episode)
    together = model(*episode)
    for b in range(3):
        alone = model(*(part[b : b + 1] for part in episode))
        pick = slice(b, b + 1)
        auxiliary = tuple((logits[pick], weight) for logits, weight in together.auxiliary)
        _same(alone, Output(together.logits[pick], together.grid, auxiliary))


def test_the_order_of_the_shots_does_not_matter(backbone: nn.Module) -> None:
    model, (query, support, mask) = _model(backbone, neck="correlation"), _episode(shots=3)
    _balance(model, query, support, mask)
    _same(model(query, support, mask), model(query, support.flip(1), mask.flip(1)))


def test_a_shot_without_foreground_adds_nothing(backbone: nn.Module) -> None:
    model, (query, support, mask) = _model(backbone, neck="correlation"), _episode(shots=2)
    mask[:, 1] = 255
    _same(model(query, support, mask), model(query, support[:, :1], mask[:, :1]))


def test_average_fusion_is_the_mean_of_one_shot_logits(backbone: nn.Module) -> None:
    model, (query, support, mask) = _model(backbone, shot_fusion="average"), _episode(shots=3)
    outputs = [model(query, support[:, k : k + 1], mask[:, k : k + 1]) for k in range(3)]
    mean = torch.stack([output.logits for output in outputs]).mean(0)
    output = model(query, support, mask)
    torch.testing.assert_close(output.logits, mean, rtol=1e-3, atol=3e-4)
    assert [weight for _, weight in output.auxiliary] == [1.0, 1.0, 0.2, 0.2]


@pytest.mark.parametrize("predicted", [0, 1])
def test_a_prediction_of_one_label_leaves_the_support_unmodulated(
    backbone: nn.Module, predicted: int
) -> None:
    model = _model(backbone)
    _predict_only(model, predicted)
    output = model(*_episode())
    first, hat = output.auxiliary[0][0], output.auxiliary[2][0]
    assert ((first[:, 1] > first[:, 0]) == bool(predicted)).all()
    assert torch.equal(hat, first)


def test_the_peak_option_modulates_where_nothing_was_predicted(backbone: nn.Module) -> None:
    model = _model(backbone, empty_foreground="peak")
    with torch.no_grad():
        model.qp.classify.bias.copy_(torch.tensor([9.0, -9.0]))
    output = model(*_episode())
    first, hat = output.auxiliary[0][0], output.auxiliary[2][0]
    assert (first[:, 1] < first[:, 0]).all()
    assert not torch.equal(hat, first)


@pytest.mark.parametrize("support_label", [0, 1, 255, None])
@pytest.mark.parametrize("predicted", [0, 1, None])
def test_empty_and_full_sets_give_every_parameter_a_finite_gradient(
    backbone: nn.Module, support_label: int | None, predicted: int | None
) -> None:
    model, (query, support, mask) = _model(backbone), _episode(shots=2)
    if predicted is not None:
        _predict_only(model, predicted)
    if support_label is not None:
        mask = torch.full_like(mask, support_label)
    output = model(query, support, mask)
    segmentation_loss(output, _target(2)).backward()
    assert output.logits.isfinite().all()
    _assert_finite_gradients(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("predicted", [0, 1])
def test_empty_and_full_sets_have_finite_gradients_in_mixed_precision_too(
    backbone: nn.Module, predicted: int, dtype: torch.dtype
) -> None:
    model, (query, support, mask) = _model(backbone), _episode(shots=2)
    _predict_only(model, predicted)
    mask[0] = 255
    with torch.autocast("cpu", dtype=dtype):
        output = model(query, support, mask)
    segmentation_loss(output, _target(2)).backward()
    _assert_finite_gradients(model)


def _assert_finite_gradients(model: Abcb) -> None:
    for name, parameter in model.named_parameters():
        if not name.startswith("backbone."):
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"iterations": 1}, ("sm.", "ic.")),
        ({"has_cleansing": False}, ("ic.",)),
        ({"evolution": "pixel"}, ("sm.evolution.statistics",)),
        ({"evolution": "statistics"}, ("sm.evolution.pixel", "sm.evolution.on_")),
        ({"normalisation": "layer_norm"}, ()),
        ({"confidence_bias": "none"}, ()),
    ],
)
def test_every_ablation_trains_all_the_parameters_it_has(
    backbone: nn.Module, options: dict[str, Any], absent: tuple[str, ...]
) -> None:
    model = _model(backbone, **options)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert not any(name.startswith(absent) for name in names)
    segmentation_loss(model(*_episode()), _target(2)).backward()
    assert all(model.get_parameter(name).grad is not None for name in names)


def test_a_key_whose_confidence_fell_gets_more_attention(backbone: nn.Module) -> None:
    rise = torch.zeros(1, CELLS**2)
    rise[0, 4] = 0.6
    tokens = Tokens(torch.randn(1, 3, 16), torch.ones(1, 3, dtype=torch.bool))
    keys = torch.randn(1, CELLS**2, 16)
    shares = {}
    for bias in ("entropy_rise", "none", "entropy_fall"):
        cleansing = _model(backbone, confidence_bias=bias).ic
        leaf = keys.clone().requires_grad_()
        with torch.no_grad():
            cleansing.attention.to_key.weight.zero_()
        cleansing(tokens, tokens, cleansing.prepare(leaf), rise).values.abs().sum().backward()
        shares[bias] = leaf.grad[0, 4].norm() / leaf.grad[0, 5].norm()
    assert shares["entropy_rise"] == pytest.approx(2.718281828**0.6, rel=1e-3)
    assert shares["none"] == pytest.approx(1.0, rel=1e-3)
    assert shares["entropy_fall"] == pytest.approx(2.718281828**-0.6, rel=1e-3)


def test_training_in_bfloat16_stays_close_to_float32(backbone: nn.Module) -> None:
    model, episode = _model(backbone), _episode()
    exact = segmentation_loss(model(*episode), _target(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = segmentation_loss(model(*episode), _target(2))
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_deterministic_mode_gives_the_same_gradients_bit_for_bit(backbone: nn.Module) -> None:
    model, episode = _model(backbone), _episode(shots=2)
    _balance(model, *episode)
    trained = [p for p in model.parameters() if p.requires_grad]
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (
            torch.autograd.grad(segmentation_loss(model(*episode), _target(2)), trained)
            for _ in range(2)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_few_steps_lower_the_loss(backbone: nn.Module) -> None:
    model, episode = _model(backbone), _episode()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.02, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = segmentation_loss(model(*episode), _target(2))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_the_parts_have_the_papers_budget_of_parameters() -> None:
    with torch.device("meta"):
        model = new_method("abcb", "resnet50", from_scratch=True)
    millions = {
        name: sum(parameter.numel() for parameter in part.parameters()) / 1e6
        for name, part in model.named_children()
    }
    millions["total"] = sum(millions.values())
    paper = {"qp": 0.6, "sm": 3.9, "ic": 2.0, "total": 33.5}
    for name, published in paper.items():
        assert millions[name] == pytest.approx(published, rel=0.13), name


def test_a_query_of_odd_size_runs_through_the_whole_model() -> None:
    model = new_method("abcb", "efficientnet_lite0", abcb_channels=16, abcb_num_heads=2)
    query, support, mask = _episode(batch=1)
    output = model(query[..., :47, :41], support[..., :47, :41], mask[..., :47, :41])
    assert output.logits.shape == (1, 2, 6, 6)
