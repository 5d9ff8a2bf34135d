"""The mixture of experts: really sparse, and every parameter has a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.camouflage.experts import SparseExperts, balance_loss


def mixture(**changed):
    torch.manual_seed(0)
    return SparseExperts(6, **{"num_experts": 5, "top_k": 2, "width": 8, **changed})


def rows_seen(mixed: SparseExperts) -> list[int]:
    """How many pixels each expert gets, filled in by a forward pass."""
    seen = [0] * len(mixed.experts)

    def note(place):
        def hook(module, inputs):
            seen[place] += len(inputs[0])

        return hook

    for place, expert in enumerate(mixed.experts):
        expert.register_forward_pre_hook(note(place))
    return seen


def test_an_expert_computes_its_own_pixels_alone():
    mixed = mixture()
    seen = rows_seen(mixed)
    mixed(torch.randn(3, 6, 4, 7))
    assert sum(seen) == 3 * 4 * 7 * 2
    assert max(seen) < 3 * 4 * 7


def test_the_sum_is_that_of_all_experts_with_the_gates_of_those_not_chosen_at_zero():
    mixed, features = mixture(), torch.randn(2, 6, 3, 5, requires_grad=True)
    found, _ = mixed(features)
    pixels = mixed.norm(features.permute(0, 2, 3, 1).reshape(-1, 6))
    gates = mixed.router(pixels).softmax(1)
    kept = torch.zeros_like(gates).scatter(1, gates.topk(2).indices, 1.0) * gates
    dense = sum(kept[:, [i]] * expert(pixels) for i, expert in enumerate(mixed.experts))
    expected = features + dense.view(2, 3, 5, 6).permute(0, 3, 1, 2)
    assert torch.allclose(found, expected, atol=1e-6)
    ours, theirs = (
        torch.autograd.grad(each.square().sum(), [features, *mixed.parameters()])
        for each in (found, expected)
    )
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))


def test_an_expert_without_a_pixel_has_a_gradient_of_zero():
    """Else DDP would have to search for unused parameters, or would wait for ever."""
    mixed = mixture(top_k=1)
    with torch.no_grad():
        mixed.router.weight.zero_()
        mixed.router.weight[2] = 1.0
        mixed.norm.weight.zero_()
        mixed.norm.bias.fill_(1.0)
    seen = rows_seen(mixed)
    found, balance = mixed(torch.randn(2, 6, 3, 3))
    (found.sum() + balance.sum()).backward()
    assert seen == [0, 0, 18, 0, 0]
    assert all(parameter.grad is not None for parameter in mixed.parameters())
    assert all(not each.grad.any() for each in mixed.experts[0].parameters())
    assert mixed.experts[2][2].weight.grad.any()


@pytest.mark.parametrize("num_experts", [1, 4])
def test_the_balance_loss_is_one_where_all_experts_get_equally_much(num_experts):
    even = torch.full((2, 8, num_experts), 1 / num_experts)
    chosen = torch.arange(8).remainder(num_experts).repeat(2, 1)
    assert balance_loss(even, chosen).tolist() == pytest.approx([1, 1])
    one = nn.functional.one_hot(torch.zeros(2, 8, dtype=torch.long), num_experts).float()
    assert balance_loss(one, one.argmax(2)).tolist() == pytest.approx([num_experts] * 2)
