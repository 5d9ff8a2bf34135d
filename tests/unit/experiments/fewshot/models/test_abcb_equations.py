"""Each equation of ABCB against a float64 transcription: one episode, no padding, dense matrices.

The transcription shares only the weights with the code under test. Where the paper is silent it
follows docs/abcb.md.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.abcb import balance
from torch import Tensor, nn

from experiments.backbones.build import build_backbone
from experiments.fewshot.models.abcb.ic import ConfidenceBias, InformationCleansing, entropy
from experiments.fewshot.models.abcb.layers import Attention, Mlp
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.abcb.qp import QueryPrediction
from experiments.fewshot.models.abcb.sm import EvolutionFeature, QueryCells, SupportModulation
from experiments.fewshot.models.abcb.tokens import Tokens, pack
from experiments.fewshot.models.losses import cross_entropy, segmentation_loss
from experiments.fewshot.options import AbcbOptions

C, HEADS, BINS, SIDE = 8, 2, 16, 6
N = SIDE * SIDE


# ---------------------------------------------------------------- the transcription


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.T + (0 if layer.bias is None else layer.bias)


def mlp(layers: Mlp, x: Tensor) -> Tensor:
    return linear(layers[2], linear(layers[0], x).clamp(min=0))


def attention(layers: Attention, query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
    q, k, v = (
        linear(layer, x)
        for layer, x in ((layers.to_query, query), (layers.to_key, key), (layers.to_value, key))
    )
    width = q.shape[1] // layers.num_heads
    heads = []
    for h in range(layers.num_heads):
        part = slice(h * width, (h + 1) * width)
        scores = q[:, part] @ k[:, part].T / math.sqrt(width)
        if bias is not None:
            scores = scores + bias[None, :]
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        heads.append(weights @ v[:, part])
    return linear(layers.to_out, torch.cat(heads, 1))


def histogram(x: Tensor) -> Tensor:
    unit = x / x.norm(dim=1, keepdim=True)
    affinity = (unit @ unit.T).clamp(0, 1)
    bins = [(1 - (affinity * (BINS - 1) - l).abs()).clamp(min=0).sum() for l in range(BINS)]  # noqa: E741
    return torch.stack(bins) / len(x) ** 2


def eq_1(qp: QueryPrediction, support: Tensor, f_q: Tensor) -> Tensor:
    mean = support.mean(0) if len(support) else torch.zeros(C, dtype=torch.float64)
    first = torch.cat([qp.on_mean.weight, qp.on_query.weight], dim=1)
    joined = torch.cat([mean.expand(len(f_q), C), f_q], dim=1)
    return linear(qp.classify, (joined @ first.T + qp.on_query.bias).clamp(min=0))


def eq_4(e: EvolutionFeature, cells: tuple[Tensor, Tensor, Tensor], foreground: Tensor) -> Tensor:
    f_q, colour, normalised = (x[foreground] for x in cells)
    pixel = torch.cat([linear(e.on_image, normalised), linear(e.on_features, f_q)], 1)
    statistics = torch.cat([histogram(colour), histogram(f_q)])
    return mlp(e.pixel, pixel) + mlp(e.statistics, statistics)[None]


def eq_2_3(
    sm: SupportModulation, support: Tensor, cells: tuple[Tensor, ...], foreground: Tensor
) -> Tensor:
    if not len(support) or foreground.all() or not foreground.any():
        return support
    context = attention(sm.to_context, cells[0][~foreground], eq_4(sm.evolution, cells, foreground))
    return support + attention(sm.to_support, support, context)


def eq_5_6(
    ic: InformationCleansing, before: Tensor, modulated: Tensor, f_q: Tensor, rise: Tensor
) -> Tensor:
    query = mlp(ic.phi, torch.cat([before, modulated], 1))
    return modulated - attention(ic.attention, query, f_q, rise)


def entropy_map(logits: Tensor) -> Tensor:
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return -(p * p.log()).sum(1)


def iterate(model: Abcb, support: Tensor, cells: tuple[Tensor, ...]) -> tuple[list[Tensor], ...]:
    predictions, hats = [], []
    for t in range(model.options.iterations):
        predictions.append(eq_1(model.qp, support, cells[0]))
        if t == model.options.iterations - 1:
            break
        foreground = predictions[-1][:, 1] > predictions[-1][:, 0]
        modulated = eq_2_3(model.sm, support, cells, foreground)
        hats.append(eq_1(model.qp, modulated, cells[0]))
        rise = entropy_map(hats[-1]) - entropy_map(predictions[-1])
        support = eq_5_6(model.ic, support, modulated, cells[0], rise) if len(support) else support
    return predictions, hats


# ---------------------------------------------------------------- cases


def _seeded(seed: int) -> None:
    torch.manual_seed(seed)


def _uneven_sets(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Support features of three episodes and members: 5, 1 and 11 of them."""
    _seeded(seed)
    member = torch.zeros(3, N, dtype=torch.bool)
    for row, count in enumerate((5, 1, 11)):
        member[row, torch.randperm(N)[:count]] = True
    return torch.rand(3, N, C, dtype=torch.float64), member


def _cells(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    _seeded(seed)
    f_q = torch.randn(3, N, C, dtype=torch.float64).clamp(min=-0.2).add(0.2)
    colour = torch.rand(3, N, 3, dtype=torch.float64) * 255
    return f_q, colour, (colour - 120) / 60


def _assert_same_gradients(first: Tensor, second: Tensor, leaves: list[Tensor]) -> None:
    """Gradients of two scalars with respect to `leaves`."""
    ours, oracle = (torch.autograd.grad(x, leaves, allow_unused=True) for x in (first, second))
    for mine, theirs, leaf in zip(ours, oracle, leaves, strict=True):
        zero = torch.zeros_like(leaf)
        torch.testing.assert_close(
            zero if mine is None else mine, zero if theirs is None else theirs
        )


def _weighted(x: Tensor) -> Tensor:
    """A scalar that every element of `x` moves differently."""
    return (x * torch.linspace(0.5, 1.5, x.numel(), dtype=x.dtype).view_as(x)).sum()


def test_query_prediction_is_equation_1() -> None:
    features, member = _uneven_sets()
    features.requires_grad_()
    f_q = _cells()[0].requires_grad_()
    qp = QueryPrediction(C).double()
    ours = qp(pack(features, member), qp.prepare(f_q))
    oracle = torch.stack([eq_1(qp, features[b][member[b]], f_q[b]) for b in range(3)])
    torch.testing.assert_close(ours, oracle)
    leaves = [features, f_q, *qp.parameters()]
    _assert_same_gradients(_weighted(ours), _weighted(oracle), leaves)


def test_the_evolution_feature_is_equation_4() -> None:
    cells = _cells()
    cells[0].requires_grad_()
    _, member = _uneven_sets()
    evolution = EvolutionFeature(C, BINS, "both").double()
    ours = evolution(QueryCells(*cells), member)
    flat = torch.cat([ours.values[b][ours.is_real[b]] for b in range(3)])
    oracle = torch.cat(
        [eq_4(evolution, tuple(x[b] for x in cells), member[b]) for b in range(3)]  # type: ignore[arg-type]
    )
    torch.testing.assert_close(flat, oracle)
    leaves = [cells[0], *evolution.parameters()]
    _assert_same_gradients(_weighted(flat), _weighted(oracle), leaves)


def test_support_modulation_is_equations_2_and_3() -> None:
    features, member = _uneven_sets()
    features.requires_grad_()
    cells = _cells()
    cells[0].requires_grad_()
    foreground = _uneven_sets(seed=5)[1].roll(1, 0)
    sm = SupportModulation(C, HEADS, "none", EvolutionFeature(C, BINS, "both")).double()
    support = pack(features, member)
    ours = sm(support, QueryCells(*cells), sm.prepare(cells[0]), foreground)
    flat = torch.cat([ours.values[b][ours.is_real[b]] for b in range(3)])
    oracle = torch.cat(
        [
            eq_2_3(sm, features[b][member[b]], tuple(x[b] for x in cells), foreground[b])
            for b in range(3)
        ]
    )
    torch.testing.assert_close(flat, oracle)
    leaves = [features, cells[0], *sm.parameters()]
    _assert_same_gradients(_weighted(flat), _weighted(oracle), leaves)


@pytest.mark.parametrize(("bias", "sign"), [("entropy_rise", 1), ("entropy_fall", -1)])
def test_information_cleansing_is_equations_5_and_6(bias: ConfidenceBias, sign: int) -> None:
    features, member = _uneven_sets()
    before = pack(features.requires_grad_(), member)
    _seeded(7)
    shift = torch.randn(3, N, C, dtype=torch.float64, requires_grad=True)
    modulated = pack(features + shift, member)
    rise = torch.randn(3, N, dtype=torch.float64, requires_grad=True)
    f_q = _cells()[0].requires_grad_()
    ic = InformationCleansing(C, HEADS, "none", bias).double()
    ours = ic(before, modulated, ic.prepare(f_q), rise)
    flat = torch.cat([ours.values[b][ours.is_real[b]] for b in range(3)])
    oracle = torch.cat(
        [
            eq_5_6(
                ic,
                features[b][member[b]],
                (features + shift)[b][member[b]],
                f_q[b],
                sign * rise[b],
            )
            for b in range(3)
        ]
    )
    torch.testing.assert_close(flat, oracle)
    leaves = [features, shift, rise, f_q, *ic.parameters()]
    _assert_same_gradients(_weighted(flat), _weighted(oracle), leaves)


def test_cleansing_without_a_change_of_confidence_is_plain_attention() -> None:
    _seeded(0)
    ic = InformationCleansing(C, HEADS, "none", "entropy_rise").double()
    plain = nn.MultiheadAttention(C, HEADS, batch_first=True).double()
    parts = (ic.attention.to_query, ic.attention.to_key, ic.attention.to_value)
    with torch.no_grad():
        plain.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        plain.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        plain.out_proj.weight.copy_(ic.attention.to_out.weight)
        plain.out_proj.bias.copy_(ic.attention.to_out.bias)
    values, f_q = torch.randn(2, 5, C).double(), torch.randn(2, N, C).double()
    tokens = Tokens(values, torch.ones(2, 5, dtype=torch.bool))
    ours = ic(tokens, tokens, ic.prepare(f_q), torch.zeros(2, N).double())
    noise, _ = plain(ic.phi(torch.cat([values, values], 2)), f_q, f_q, need_weights=False)
    torch.testing.assert_close(ours.values, values - noise)


def test_entropy_is_that_of_the_two_class_prediction() -> None:
    logits = torch.randn(2, 7, 2, dtype=torch.float64)
    oracle = torch.stack([entropy_map(x) for x in logits])
    torch.testing.assert_close(entropy(logits), oracle)
    assert entropy(torch.zeros(1, 1, 2)).item() == pytest.approx(math.log(2))


def test_entropy_of_a_certain_prediction_has_finite_gradient() -> None:
    logits = torch.tensor([[[500.0, -500.0], [0.0, 0.0]]], requires_grad=True)
    entropy(logits).sum().backward()
    assert logits.grad.isfinite().all()


# ---------------------------------------------------------------- the whole method


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    """Its features are replaced by random ones; only its colours matter here."""
    return build_backbone("efficientnet_lite0", from_scratch=True, levels=(2,)).double()


def _model(backbone: nn.Module, seed: int, **options: object) -> Abcb:
    _seeded(seed)
    sizes: dict[str, object] = {
        "channels": C,
        "num_heads": HEADS,
        "initialisation": "random",
        "neck": "convolution",
    }
    settings = AbcbOptions(**{**sizes, **options})  # type: ignore[arg-type]
    model = Abcb(backbone, settings).double()  # type: ignore[arg-type]
    with torch.no_grad():
        model.qp.classify.weight.mul_(6)
    return model


def _episode(shots: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Query image, query and support features, support masks of uneven size, target."""
    rng = np.random.default_rng(seed)
    size = SIDE * 8
    image = torch.from_numpy(rng.uniform(0, 255, (3, 3, size, size)))
    query = torch.from_numpy(rng.normal(size=(3, 40, SIDE, SIDE)))
    support = torch.from_numpy(rng.normal(size=(3, shots, 40, SIDE, SIDE)))
    mask = torch.zeros(3, shots, size, size, dtype=torch.uint8)
    for b in range(3):
        for k in range(shots):
            mask[b, k, 8 * k : 8 * k + 16 + 8 * b, 8 : 8 + 16 * (b + 1)] = 1
    target = torch.from_numpy(rng.choice(np.array([0, 1, 255], np.uint8), (3, size, size)))
    return image, query, support, mask, target


def _oracle_loss(model: Abcb, episode: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Logits of the last iteration, and Eq. 7."""
    image, query, support, mask, target = episode
    shots = support.shape[1]
    f_q, _ = model.neck((query,), (support,), torch.ones(3, shots, SIDE, SIDE).bool())
    colour = _means(image)
    rows = []
    for b in range(3):
        f_s = model.neck((query[b : b + 1],), (support[b : b + 1],), mask[b : b + 1])[1][0].permute(
            0, 2, 3, 1
        )
        is_in = _means(mask[b].double()) >= 0.5
        cells = [x.permute(1, 2, 0).reshape(N, -1) for x in (f_q[b], colour[b])]
        cells.append((cells[1] - 127) / 128)
        rows.append(iterate(model, f_s[is_in], tuple(cells)))

    def grid(kind: int, t: int) -> Tensor:
        logits = torch.stack([row[kind][t] for row in rows])
        return logits.transpose(1, 2).reshape(3, 2, SIDE, SIDE)

    rounds = model.options.iterations
    main = [cross_entropy(_resized(grid(0, t)), target) for t in range(rounds)]
    after_sm = [cross_entropy(_resized(grid(1, t)), target) for t in range(rounds - 1)]
    return grid(0, rounds - 1), sum(main) + 0.2 * sum(after_sm)


def _distances() -> Tensor:
    """Pixels from each cell's centre, SIDE x 8 SIDE: at this size cells lie on 3.5, 11.5, ..."""
    centres = 3.5 + 8 * torch.arange(SIDE, dtype=torch.float64)
    return (centres[:, None] - torch.arange(8 * SIDE)).abs()


def _means(pixels: Tensor) -> Tensor:
    """Means over the pixels nearest to each cell, those in the middle of two cells by half."""
    near = (_distances() == _distances().amin(0)).double()
    near = near / near.sum(0)
    share = near / near.sum(1, keepdim=True)
    return torch.einsum("ih,...hw,jw->...ij", share, pixels, share)


def _resized(logits: Tensor) -> Tensor:
    weights = (1 - _distances() / 8).clamp(min=0)
    weights[0, :4] = 1.0
    weights[-1, -4:] = 1.0
    return torch.einsum("ih,...ij,jw->...hw", weights, logits, weights).float()


@pytest.mark.parametrize(("shots", "seed"), [(1, 0), (1, 1), (3, 2)])
def test_the_whole_method_is_its_equations(backbone: nn.Module, shots: int, seed: int) -> None:
    model = _model(backbone, seed)
    image, query, support, mask, target = episode = _episode(shots, seed)
    with torch.no_grad():
        balance(model, model.segment(image, (query,), (support,), mask))
    output = model.segment(image, (query,), (support,), mask)
    logits, loss = _oracle_loss(model, episode)
    split = (output.auxiliary[0][0].argmax(1) == 1).flatten(1).sum(1)
    assert ((split > 0) & (split < N)).all()
    torch.testing.assert_close(output.logits, logits)
    leaves = [p for name, p in model.named_parameters() if not name.startswith("backbone.")]
    ours = segmentation_loss(output, target)
    assert ours.item() == pytest.approx(loss.item(), rel=1e-5)
    _assert_close_gradients(ours, loss, leaves)


def _assert_close_gradients(ours: Tensor, oracle: Tensor, leaves: list[Tensor]) -> None:
    """The loss is float32, so its gradients agree to float32."""
    pairs = zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(oracle, leaves), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
