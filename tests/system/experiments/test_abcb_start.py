"""How ABCB starts: a neck of unit cells, and a first prediction that compares."""

from __future__ import annotations

import pytest
import torch
from support.abcb import balance
from torch import Tensor

from experiments.backbones.build import build_backbone
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.abcb.neck import ConvolutionNeck
from experiments.fewshot.models.abcb.qp import QueryPrediction
from experiments.fewshot.models.abcb.tokens import Tokens
from experiments.fewshot.options import AbcbOptions

pytestmark = pytest.mark.system

CHANNELS = 64


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1) * x.shape[-1] ** 0.5


def _odds_of_foreground(cosines: list[float]) -> Tensor:
    """What the untrained prediction says of cells at given cosines to the support's one token."""
    token, other = torch.linalg.qr(torch.randn(CHANNELS, 2))[0].T
    cells = [c * token + (1 - c**2) ** 0.5 * other for c in cosines]
    qp = QueryPrediction(CHANNELS)
    qp.start_as_comparison()
    support = Tokens(_unit(token)[None, None], torch.ones(1, 1, dtype=torch.bool))
    logits = qp(support, qp.prepare(_unit(torch.stack(cells))[None]))[0]
    return (logits[:, 1] - logits[:, 0]).detach()


def test_the_first_prediction_falls_with_the_distance_from_the_support() -> None:
    odds = _odds_of_foreground([1.0, 0.9, 0.7, 0.4, 0.0, -0.5])
    assert (odds.diff() < 0).all()
    assert odds[0] == pytest.approx(3.2 * 0.8, rel=1e-4)


def test_the_first_prediction_has_even_odds_at_a_cosine_of_two_thirds() -> None:
    odds = _odds_of_foreground([0.85, 0.5])
    assert odds[0] > 0 > odds[1]


def test_at_the_start_every_iteration_predicts_what_the_first_does() -> None:
    model = _model()
    query, support, mask = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 3, 64, 64), _mask()
    output = model(query * 255, support * 255, mask)
    assert len(output.auxiliary) == 4
    for logits, _ in output.auxiliary:
        torch.testing.assert_close(logits, output.logits)


def test_the_later_steps_learn_from_the_second_optimiser_step_on() -> None:
    model = _model()
    images, supports = torch.rand(2, 3, 64, 64) * 255, torch.rand(2, 1, 3, 64, 64) * 255
    with torch.no_grad():
        balance(model, model(images, supports, _mask()))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        output = model(images, supports, _mask())
        sum(logits[:, 1].mean() for logits, _ in output.auxiliary).backward()  # type: ignore[union-attr]
        optimizer.step()
    parts = (model.sm.to_context.to_value, model.sm.to_support.to_value, model.ic.phi[0])
    for part in parts:
        assert part.weight.grad.abs().sum() > 0


def test_the_neck_gives_cells_of_mean_square_one_whatever_the_backbones_scale() -> None:
    neck = ConvolutionNeck((5, 7), 8, "unit", "linear")
    levels = torch.randn(2, 5, 4, 4), torch.randn(2, 7, 4, 4)
    features, scaled = _of(neck, *levels), _of(neck, levels[0] * 30, levels[1] / 50)
    torch.testing.assert_close(features.square().mean(1), torch.ones(2, 4, 4))
    torch.testing.assert_close(scaled, features, rtol=1e-4, atol=1e-5)


def test_the_neck_starts_with_the_cells_as_alike_as_they_were() -> None:
    neck = ConvolutionNeck((20, 40), 240, "unit", "linear")
    neck.start_faithful()
    shares = torch.rand(1, 1, 5, 5)
    levels = shares * torch.randn(60, 1, 1) + (1 - shares) * torch.randn(60, 1, 1)
    levels = levels + 0.1 * torch.randn_like(levels)
    pairs = torch.stack(
        [_cosines(levels), _cosines(_of(neck, levels[:, :20], levels[:, 20:]).detach())]
    )
    assert torch.corrcoef(pairs)[0, 1] > 0.95


def test_a_neck_that_starts_faithful_looks_at_one_cell() -> None:
    neck = ConvolutionNeck((6,), 8, "unit", "linear")
    neck.start_faithful()
    levels = torch.randn(1, 6, 5, 5)
    others = levels.clone()
    others[..., 4] = torch.randn(1, 6, 5)
    changed = (_of(neck, levels) != _of(neck, others)).any(1)
    assert not changed[..., :4].any()
    assert changed[..., 4].all()


def _of(neck: ConvolutionNeck, *levels: Tensor) -> Tensor:
    """The features of one image."""
    support = tuple(level[:1, None] for level in levels)
    f_q: Tensor = neck(levels, support, torch.ones(1, 1, *levels[0].shape[-2:]).bool())[0]
    return f_q


def _cosines(cells_1Chw: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize(cells_1Chw[0].flatten(1), dim=0)
    first, second = torch.triu_indices(unit.shape[1], unit.shape[1], offset=1)
    return (unit.T @ unit)[first, second]


def _model() -> Abcb:
    options = AbcbOptions(channels=16, num_heads=2, neck_dropout=0.0)
    return Abcb(build_backbone("efficientnet_lite0", levels=options.levels), options)


def _mask() -> Tensor:
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    mask[:, :, 10:40, 10:40] = 1
    return mask
