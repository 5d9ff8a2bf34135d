"""The parts under ABCB's equations: token sets, attention with a bias per key, the histogram."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fewshot import even_grid
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.fewshot.models.abcb import histogram as histogram_module
from experiments.fewshot.models.abcb.histogram import affinity_histogram
from experiments.fewshot.models.abcb.ic import InformationCleansing
from experiments.fewshot.models.abcb.layers import biased_attention, masked_attention
from experiments.fewshot.models.abcb.sm import EvolutionFeature, QueryCells, SupportModulation
from experiments.fewshot.models.abcb.tokens import Tokens, pack, support_cells


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation gave."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                # A broadcast view has elements, not memory.
                stored = [n for n, step in zip(tensor.shape, tensor.stride(), strict=True) if step]
                self.numel = max(self.numel, math.prod(stored))
        return result


def _dense_histogram(values: Tensor, num_bins: int) -> Tensor:
    unit = values / values.norm(dim=1, keepdim=True)
    places = (unit @ unit.T).clamp(0, 1) * (num_bins - 1)
    spires = [(1 - (places - centre).abs()).clamp(min=0).sum() for centre in range(num_bins)]
    return torch.stack(spires) / len(values) ** 2


def _whole(values_BMC: Tensor) -> Tokens:
    return Tokens(values_BMC, torch.ones(values_BMC.shape[:2], dtype=torch.bool))


# ---------------------------------------------------------------- token sets


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4))
def test_packing_keeps_every_member_in_order(rows: list[list[bool]]) -> None:
    member = torch.tensor(rows)
    grid = torch.arange(member.numel()).view(*member.shape, 1).float()
    tokens = pack(grid, member)
    assert tokens.values.shape[1] == max(1, int(member.sum(1).max()))
    for row in range(len(rows)):
        real = tokens.values[row][tokens.is_real[row]]
        assert torch.equal(real, grid[row][member[row]])


def test_the_mean_of_an_empty_set_is_zero() -> None:
    tokens = pack(torch.randn(2, 4, 3), torch.tensor([[False] * 4, [False, True, False, False]]))
    assert torch.equal(tokens.mean()[0], torch.zeros(3))
    assert torch.equal(tokens.mean()[1], tokens.values[1, 0])


@pytest.mark.parametrize(
    ("side", "threshold", "expected"), [(16, 0.5, 4), (12, 0.5, 3), (12, 0.75, 1), (3, 0.5, 1)]
)
def test_a_support_cell_needs_its_fraction_but_no_object_is_lost(
    side: int, threshold: float, expected: int
) -> None:
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    mask[..., :side, :side] = 1
    assert support_cells(mask, even_grid((4, 4), step=8), threshold).sum() == expected


@pytest.mark.parametrize("label", [0, 255])
def test_a_shot_without_foreground_gives_no_support_cell(label: int) -> None:
    mask = torch.full((1, 2, 32, 32), label, dtype=torch.uint8)
    mask[:, 1, :8, :8] = 1
    cells = support_cells(mask, even_grid((4, 4), step=8), 0.5)
    assert cells.view(2, 16).sum(1).tolist() == [0, 1]


# ---------------------------------------------------------------- attention


def _qkv(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    q, k, v = (torch.randn(2, 3, n, 5, dtype=torch.float64) for n in (4, 6, 6))
    return q, k, v, torch.randn(2, 6, dtype=torch.float64)


def test_a_bias_per_key_is_an_additive_mask_of_scaled_dot_product_attention() -> None:
    leaves = [x.requires_grad_() for x in _qkv()]
    q, k, v, bias = leaves
    ours = biased_attention(q, k, v, bias)
    mask = bias[:, None, None, :].expand(2, 3, 4, 6)
    theirs = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    pairs = (torch.autograd.grad((x * weights).sum(), leaves) for x in (ours, theirs))
    for mine, other in zip(*pairs, strict=True):
        torch.testing.assert_close(mine, other)


def test_an_absent_key_has_no_influence_at_all() -> None:
    q, k, v, _ = _qkv()
    is_real = torch.tensor([[True] * 4 + [False] * 2] * 2)
    hidden = masked_attention(q, k, v, is_real)
    k[:, :, 4:], v[:, :, 4:] = 100.0, -1e6
    assert torch.equal(hidden, masked_attention(q, k, v, is_real))
    without = functional.scaled_dot_product_attention(q, k[:, :, :4], v[:, :, :4])
    torch.testing.assert_close(hidden, without)


def test_attention_to_nothing_but_absent_keys_takes_them_all_and_stays_finite() -> None:
    leaves = [x.requires_grad_() for x in _qkv()[:3]]
    out = masked_attention(*leaves, torch.zeros(2, 6, dtype=torch.bool))
    torch.testing.assert_close(out, functional.scaled_dot_product_attention(*leaves))
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), leaves))


# ---------------------------------------------------------------- histogram


@settings(max_examples=30)
@given(
    st.integers(1, 23), st.integers(2, 16), st.sampled_from([1, 30, 1 << 20]), st.integers(0, 99)
)
def test_the_tiled_histogram_is_the_dense_one(
    count: int, num_bins: int, tile_elements: int, seed: int
) -> None:
    torch.manual_seed(seed)
    values = torch.randn(2, count, 4, dtype=torch.float64).requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histogram_module, "TILE_ELEMENTS", tile_elements)
        ours = affinity_histogram(_whole(values), num_bins)
        dense = torch.stack([_dense_histogram(rows, num_bins) for rows in values])
        torch.testing.assert_close(ours, dense)
        torch.testing.assert_close(ours.sum(1), torch.ones(2, dtype=torch.float64))
        scale = torch.arange(num_bins, dtype=torch.float64) ** 2
        gradients = (torch.autograd.grad((x * scale).sum(), values)[0] for x in (ours, dense))
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("count", [2, 9])
def test_the_histogram_passes_gradcheck(count: int) -> None:
    torch.manual_seed(3)
    values = torch.rand(2, count, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: affinity_histogram(_whole(x), 16), (values,))


def test_padding_and_order_change_no_histogram() -> None:
    torch.manual_seed(0)
    values = torch.rand(1, 9, 4)
    padded = torch.cat([values.flip(1), torch.full((1, 5, 4), 7.0)], 1)
    is_real = torch.tensor([[True] * 9 + [False] * 5])
    ours = affinity_histogram(Tokens(padded, is_real), 16)
    torch.testing.assert_close(ours, affinity_histogram(_whole(values), 16))


def test_the_histogram_of_an_empty_set_is_zero_with_zero_gradient() -> None:
    values = torch.rand(1, 3, 4).requires_grad_()
    bins = affinity_histogram(Tokens(values, torch.zeros(1, 3, dtype=torch.bool)), 16)
    bins[0, 3].backward()
    assert torch.equal(bins, torch.zeros(1, 16))
    assert torch.equal(values.grad, torch.zeros_like(values))


def test_not_a_number_reaches_the_loss_instead_of_an_index_error() -> None:
    values = torch.full((1, 3, 4), torch.nan).requires_grad_()
    bins = affinity_histogram(_whole(values), 16)
    bins.sum().backward()
    assert bins.isnan().any()


class CountedOperations(TorchDispatchMode):
    """Counts operations: on a GPU each is a kernel or more."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        self.number += 1
        return func(*args, **(kwargs or {}))


def test_beyond_the_cpu_a_batch_at_473_takes_few_large_tiles() -> None:
    values = torch.empty(16, 3600, 512, device="meta").requires_grad_()
    with CountedOperations() as counted:
        histogram_module._SumsAbove.apply(values, 16).sum().backward()
    assert counted.number < 2000


# ---------------------------------------------------------------- memory


def test_no_step_ever_holds_a_matrix_of_cells_by_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    num_cells, channels = 1024, 16
    monkeypatch.setattr(histogram_module, "TILE_ELEMENTS", 1 << 16)
    cells = QueryCells(*(torch.rand(1, num_cells, c) for c in (channels, 3, 3)))
    cells.features.requires_grad_()
    support = _whole(torch.rand(1, num_cells, channels))
    foreground = torch.arange(num_cells)[None] < num_cells * 3 // 4
    sm = SupportModulation(channels, 2, "none", EvolutionFeature(channels, 16, "both"))
    ic = InformationCleansing(channels, 2, "none", "entropy_rise")
    rise = torch.rand(1, num_cells).requires_grad_()
    with LargestTensor() as largest:
        modulated = sm(support, cells, sm.prepare(cells.features), foreground)
        cleansed = ic(support, modulated, ic.prepare(cells.features), rise)
        cleansed.values.sum().backward()
    assert rise.grad is not None
    assert num_cells * channels <= largest.numel < num_cells * num_cells // 8
