"""ABCB's equations written down one by one with dense matrices: the peer of abcb_head.py.

One episode at a time: attention by explicit scores and a softmax, the affinity matrix and its
histogram whole, every layer applied wherever an equation names it. Only the weights are the
model's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from experiments.fewshot.models.abcb.layers import Attention
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.abcb.sm import EvolutionFeature, QueryCells

Pair = tuple[list[Tensor], list[Tensor]]


def dense_predictions(
    model: Abcb, support_MC: Tensor, query: QueryCells, is_foreground_N: Tensor
) -> Pair:
    """P_1 ... P_T and P_hat_1 ... P_hat_(T-1) as logits, N 2 each."""
    f_q, colour, normalised = (x[0] for x in (query.features, query.colour, query.normalised))
    predictions = [_predict(model, support_MC, f_q)]
    hats: list[Tensor] = []
    for _ in range(model.options.iterations - 1):
        inside = tuple(x[is_foreground_N] for x in (f_q, colour, normalised))
        evolution = _evolution(model.sm.evolution, *inside)
        context = _attend(model.sm.to_context, f_q[~is_foreground_N], evolution)
        modulated = support_MC + _attend(model.sm.to_support, support_MC, context)
        hats.append(_predict(model, modulated, f_q))
        rise = _entropy(hats[-1]) - _entropy(predictions[-1])
        phi = model.ic.phi(torch.cat([support_MC, modulated], dim=1))
        support_MC = modulated - _attend(model.ic.attention, phi, f_q, rise)
        predictions.append(_predict(model, support_MC, f_q))
    return predictions, hats


def _predict(model: Abcb, support_MC: Tensor, f_q: Tensor) -> Tensor:
    """Eq. 1."""
    weight = torch.cat([model.qp.on_mean.weight, model.qp.on_query.weight], dim=1)
    joined = torch.cat([support_MC.mean(0).expand_as(f_q), f_q], dim=1)
    hidden = functional.relu(functional.linear(joined, weight, model.qp.on_query.bias))
    logits: Tensor = model.qp.classify(hidden)
    return logits


def _attend(layers: Attention, query: Tensor, key: Tensor, bias: Tensor | None = None) -> Tensor:
    """Eq. 2, 3 and 5."""
    q, k, v = layers.to_query(query), layers.to_key(key), layers.to_value(key)
    q, k, v = (x.unflatten(1, (layers.num_heads, -1)).transpose(0, 1) for x in (q, k, v))
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    if bias is not None:
        scores = scores + bias
    out: Tensor = layers.to_out((scores.softmax(2) @ v).transpose(0, 1).flatten(1))
    return out


def _evolution(
    layers: EvolutionFeature, features: Tensor, colour: Tensor, normalised: Tensor
) -> Tensor:
    """Eq. 4."""
    both = torch.cat([layers.on_image(normalised), layers.on_features(features)], dim=1)
    parts = [_histogram(x, layers.num_bins) for x in (colour, features)]
    pixel, statistics = layers.pixel(both), layers.statistics(torch.cat(parts)[None])
    return torch.as_tensor(pixel + statistics)


def _histogram(values_MC: Tensor, num_bins: int) -> Tensor:
    unit = functional.normalize(values_MC, dim=1)
    affinity = (unit @ unit.T).clamp(0, 1) * (num_bins - 1)
    bins = [(1 - (affinity - place).abs()).clamp(min=0).sum() for place in range(num_bins)]
    return torch.stack(bins) / affinity.numel()


def _entropy(logits: Tensor) -> Tensor:
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)
