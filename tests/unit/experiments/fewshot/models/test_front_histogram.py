"""The histogram as an operator of torch: what torch.compile is told of it is what it gives."""

from __future__ import annotations

import torch

from experiments.fewshot.models.abcb.histogram import (
    _front_gradient,
    _front_sums,
    affinity_histogram,
    front_histogram,
    unit_vectors,
)
from experiments.fewshot.models.abcb.tokens import Tokens

COUNTS = torch.tensor([7, 0, 1], dtype=torch.int32)


def test_the_first_of_each_row_are_a_set_forward_and_in_the_gradient() -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 9, 4, dtype=torch.float64, requires_grad=True)
    tokens = Tokens(values, torch.arange(9) < COUNTS[:, None])
    weights = torch.randn(3, 8, dtype=torch.float64)
    ours = front_histogram(unit_vectors(values), COUNTS, 8)
    oracle = affinity_histogram(tokens, 8)
    torch.testing.assert_close(ours, oracle)
    grads = [torch.autograd.grad((x * weights).sum(), values)[0] for x in (ours, oracle)]
    torch.testing.assert_close(*grads)


def test_shapes_strides_types_and_gradients_are_as_torch_is_told() -> None:
    unit = unit_vectors(torch.randn(3, 4, 9)).transpose(1, 2).requires_grad_()
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(_front_sums, (unit, COUNTS, 8), test_utils=checks)
    gradient = unit.detach(), COUNTS, torch.randn(3, 7)
    torch.library.opcheck(_front_gradient, gradient, test_utils=checks)
