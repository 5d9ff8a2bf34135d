"""Token sets in fixed shapes equal the padded ones, and need no size on the host."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from support.abcb import balance
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.attention import varlen
from torch.utils._python_dispatch import TorchDispatchMode

from experiments.backbones.build import Backbone
from experiments.fewshot.models.abcb import packed
from experiments.fewshot.models.abcb.layers import biased_attention, masked_attention
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.abcb.packed import (
    Reach,
    members_first,
    ranged_attention,
    sequences,
)
from experiments.fewshot.models.abcb.tokens import pack, pack_in_place
from experiments.fewshot.models.base import Output
from experiments.fewshot.models.losses import segmentation_loss
from experiments.fewshot.options import AbcbOptions

SIDE = 6
N = SIDE * SIDE


class Calls(TorchDispatchMode):
    """The operations that torch runs, in order: on a GPU each is about one launch."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class HalfFeatures(nn.Module):
    """Stands for a constant backbone: one level in a half type and channels-last."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, images_N3HW: Tensor) -> tuple[Tensor]:
        level = torch.empty(len(images_N3HW), 128, SIDE, SIDE, dtype=self.dtype)
        return (level.to(memory_format=torch.channels_last),)


def _stages() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 8, 3, stride=4, padding=1),
        nn.Sequential(nn.ReLU(), nn.Conv2d(8, 128, 3, stride=2, padding=1)),
    ]


def _model(seed: int = 0, **options: object) -> Abcb:
    torch.manual_seed(seed)
    backbone = Backbone("resnet18", _stages(), (2,), "two frozen convolutions")
    sizes = {"channels": 16, "num_heads": 2, "initialisation": "random", "neck": "convolution"}
    model = Abcb(backbone, AbcbOptions(**{**sizes, **options}))  # type: ignore[arg-type]
    with torch.no_grad():
        model.qp.classify.weight.mul_(6)
    return model


def _episodes(shots: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Query, supports, their masks and the target; the last episode's support shows nothing."""
    size = SIDE * 8
    generator = torch.Generator().manual_seed(shots)
    query = torch.rand(3, 3, size, size, generator=generator, dtype=dtype) * 255
    support = torch.rand(3, shots, 3, size, size, generator=generator, dtype=dtype) * 255
    mask = torch.zeros(3, shots, size, size, dtype=torch.uint8)
    for b in range(2):
        mask[b, :, 8 : 24 + 8 * b, 8 : 24 + 16 * b] = 1
    target = (torch.rand(3, size, size, generator=generator) < 0.4).to(torch.uint8)
    return query, support, mask, target


def _logits(output: Output) -> list[Tensor]:
    return [output.logits, *(logits for logits, _ in output.auxiliary)]


def _weighted(tensors: list[Tensor]) -> Tensor:
    """A scalar that every element moves differently."""
    return torch.stack(
        [(x * torch.linspace(0.5, 1.5, x.numel(), dtype=x.dtype).view_as(x)).sum() for x in tensors]
    ).sum()


# ---------------------------------------------------------------- the whole method


@pytest.mark.parametrize(
    ("shots", "options"),
    [
        (1, {}),
        (3, {"normalisation": "layer_norm", "empty_foreground": "peak"}),
        (2, {"evolution": "pixel", "channels": 20}),
        (1, {"evolution": "statistics", "confidence_bias": "entropy_fall"}),
        (2, {"has_cleansing": False, "shot_fusion": "average"}),
    ],
)
def test_fixed_shapes_equal_the_padded_form_forward_and_in_every_gradient(
    shots: int, options: dict[str, object]
) -> None:
    model = _model(shots, **options).double()
    query, support, mask, _ = _episodes(shots)
    with torch.no_grad():
        balance(model, model(query, support, mask))
    leaves = [parameter for parameter in model.parameters() if parameter.requires_grad]
    results = []
    for is_fixed in (False, True):
        model.has_fixed_shapes = is_fixed
        logits = _logits(model(query, support, mask))
        results.append((logits, torch.autograd.grad(_weighted(logits), leaves)))
    (padded, padded_grads), (fixed, fixed_grads) = results
    sizes = (padded[1].argmax(1) == 1).flatten(1).sum(1)
    assert len(set(sizes.tolist())) > 1, "the sets of this test are all of one size"
    torch.testing.assert_close(fixed, padded)
    torch.testing.assert_close(fixed_grads, padded_grads, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("share", ["none", "all"])
def test_fixed_shapes_equal_the_padded_form_without_foreground_or_background(share: str) -> None:
    model = _model().double()
    with torch.no_grad():
        model.qp.classify.bias.copy_(torch.tensor([0.0, -1e3 if share == "none" else 1e3]))
    query, support, mask, _ = _episodes(1)
    padded = _logits(model(query, support, mask))
    model.has_fixed_shapes = True
    torch.testing.assert_close(_logits(model(query, support, mask)), padded)


def test_a_step_in_fixed_shapes_runs_the_same_operations_for_any_sizes() -> None:
    model = _model()
    model.has_fixed_shapes = True
    query, support, mask, target = _episodes(1, torch.float32)
    runs = []
    for masks in (mask, 1 - mask):
        with Calls() as calls:
            segmentation_loss(model(query, support, masks), target).backward()
        runs.append(calls.names)
        model.zero_grad()
    assert runs[0] == runs[1]
    assert not [name for name in runs[0] if "_local_scalar_dense" in name or "nonzero" in name]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_on_a_gpu_shapes_and_types_fit_and_the_host_reads_nothing(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """With tensors without memory: a read of a value by the host is an error there."""
    # Mixed precision turns itself off where there is no GPU.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    with FakeTensorMode(), torch.device("cuda"):
        model = _model(num_heads=1, channels=64)
        model.has_fixed_shapes = True
        model.keep_constant(HalfFeatures(dtype))
        query, support = torch.empty(3, 3, 48, 48), torch.empty(3, 1, 3, 48, 48)
        mask = torch.empty(3, 1, 48, 48, dtype=torch.uint8)
        target = mask[:, 0]
        with Calls() as calls, torch.autocast("cuda", dtype=dtype):
            output = model(query, support, mask)
        loss = segmentation_loss(output, target)
    # The backward pass of such tensors needs a GPU.
    assert (loss.device.type, loss.dtype) == ("cuda", torch.float32)
    assert {logits.dtype for logits in _logits(output)} == {dtype}
    attention = {name for name in calls.names if "attention" in name or "attn" in name}
    assert attention == {"torch_attn._varlen_attn.default"}


# ---------------------------------------------------------------- orders


def test_an_order_brings_members_to_the_front_and_its_gradient_back() -> None:
    torch.manual_seed(0)
    member = torch.rand(3, N) < torch.tensor([[0.3], [0.0], [1.0]])
    grid = torch.randn(3, N, 4, dtype=torch.float64, requires_grad=True)
    order = members_first(member)
    assert order.num_members.tolist() == member.sum(1).tolist()
    arranged = order(grid)
    for b in range(3):
        rows = torch.cat([grid[b][member[b]], grid[b][~member[b]]])
        assert torch.equal(arranged[b], rows)
    weights = torch.randn_like(grid)
    (grad,) = torch.autograd.grad((arranged * weights).sum(), grid)
    back = torch.empty_like(grad).scatter_(1, order.cells[:, :, None].expand_as(grad), weights)
    assert torch.equal(grad, back)


def test_a_set_in_place_is_the_padded_set_with_more_padding() -> None:
    torch.manual_seed(0)
    grid, member = torch.randn(3, N, 4), torch.rand(3, N) < 0.4
    short, long = pack(grid, member), pack_in_place(grid, member)
    width = short.values.shape[1]
    assert torch.equal(long.is_real[:, :width], short.is_real)
    assert not long.is_real[:, width:].any()
    real = short.is_real
    assert torch.equal(long.values[:, :width][real], short.values[real])
    torch.testing.assert_close(long.mean(), short.mean())


# ---------------------------------------------------------------- attention between ranges


def _ranges() -> Reach:
    rows = [[0, 3, 0, 5], [2, 7, 4, N], [0, 7, 9, 9], [4, 4, 0, N]]
    return Reach(*torch.tensor(rows, dtype=torch.int32).T)


def _parts(width: int = 8) -> list[Tensor]:
    torch.manual_seed(1)
    lengths = (7, N, N)
    return [
        torch.randn(4, length, 2 * width, dtype=torch.float64, requires_grad=True)
        for length in lengths
    ]


def _loop(q: Tensor, k: Tensor, v: Tensor, reach: Reach, bias: Tensor | None) -> Tensor:
    """Each row, head and range by itself."""
    out = torch.zeros_like(q)
    width = q.shape[2] // 2
    for b in range(len(q)):
        rows = slice(int(reach.q_start[b]), int(reach.q_stop[b]))
        keys = slice(int(reach.k_start[b]), int(reach.k_stop[b]))
        if keys.start == keys.stop:
            continue
        for part in (slice(0, width), slice(width, 2 * width)):
            scores = q[b, rows, part] @ k[b, keys, part].T / math.sqrt(width)
            scores = scores if bias is None else scores + bias[b, keys]
            out[b, rows, part] = scores.softmax(1) @ v[b, keys, part]
    return out


@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("is_biased", [False, True])
@pytest.mark.parametrize("form", ["fixed", "packed"])
def test_attention_between_ranges_is_a_loop_over_them(
    monkeypatch: pytest.MonkeyPatch, form: str, is_biased: bool, width: int
) -> None:
    """Packed: torch's function is a stand-in of the same contract, which runs on the CPU."""
    monkeypatch.setattr(varlen, "varlen_attn", _sequence_by_sequence)
    if form == "packed":
        monkeypatch.setattr(packed, "_fixed", packed._packed)
    parts, reach = _parts(width), _ranges()
    bias = torch.randn(4, N, dtype=torch.float64, requires_grad=True) if is_biased else None
    ours = ranged_attention(*parts, reach, 2, bias)  # type: ignore[call-arg, arg-type]
    oracle = _loop(*parts, reach, bias)  # type: ignore[call-arg, arg-type]
    torch.testing.assert_close(ours, oracle)
    leaves = [*parts, *([] if bias is None else [bias])]
    torch.testing.assert_close(
        torch.autograd.grad(_weighted([ours]), leaves),
        torch.autograd.grad(_weighted([oracle]), leaves),
    )


def _sequence_by_sequence(  # noqa: PLR0917
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
) -> Tensor:
    """`varlen_attn`: T heads D each; a query whose sequence has no keys gives 0."""
    assert (cu_q.dtype, cu_k.dtype) == (torch.int32, torch.int32)
    assert (int(cu_q[-1]), int(cu_k[-1])) == (len(q), len(k)), "rows that no sequence holds"
    assert q.shape[2] % 8 == 0
    pieces = []
    for (q0, q1), (k0, k1) in zip(_pairs(cu_q), _pairs(cu_k), strict=True):
        assert 0 <= q1 - q0 <= max_q
        assert 0 <= k1 - k0 <= max_k
        scores = torch.einsum("qhd,khd->hqk", q[q0:q1], k[k0:k1]) * scale
        weights = scores.softmax(2) if k1 > k0 else scores
        pieces.append(torch.einsum("hqk,khd->qhd", weights, v[k0:k1]))
    return torch.cat(pieces)


def _pairs(cumulative: Tensor) -> Iterator[tuple[int, int]]:
    values = cumulative.tolist()
    return itertools.pairwise(values)


def test_every_row_of_queries_and_keys_lies_in_a_sequence() -> None:
    cu_q, cu_k = sequences(_ranges(), 7, N)
    assert (len(cu_q), len(cu_k)) == (21, 21)
    assert (int(cu_q[0]), int(cu_q[-1]), int(cu_k[0]), int(cu_k[-1])) == (0, 28, 0, 4 * N)
    lengths = zip(cu_q.diff().tolist(), cu_k.diff().tolist(), strict=True)
    assert sum(q * k for q, k in lengths) == 3 * 5 + 5 * (N - 4)


@pytest.mark.parametrize("form", ["masked", "biased", "ranged"])
def test_float32_attention_on_a_gpu_takes_no_mask_no_plan_and_no_plain_kernel(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    asked = []

    def attention(*parts: Tensor, scale: float) -> Tensor:
        assert scale == 0.25
        backends = torch.backends.cuda
        asked.append((backends.cudnn_sdp_enabled(), backends.math_sdp_enabled()))
        return parts[2][:, :, :1].expand(-1, -1, parts[0].shape[2], -1)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    with FakeTensorMode():
        q, k, v = (torch.randn(2, 3, 9, 16, device="cuda") for _ in range(3))
        is_real = torch.ones(2, 9, dtype=torch.bool, device="cuda")
        count = torch.ones(2, dtype=torch.int32, device="cuda")
        if form == "masked":
            out = masked_attention(q, k, v, is_real)
        elif form == "biased":
            out = biased_attention(q, k, v, is_real.float())
        else:
            flat = [x.transpose(1, 2).flatten(2) for x in (q, k, v)]
            out = ranged_attention(*flat, Reach(count, count, count, count), 3)
        assert out.device.type == "cuda"
    assert asked == [(False, False)]
