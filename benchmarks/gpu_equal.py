"""Whether the fast paths equal their references on a GPU: a part of benchmarks/gpu.py."""

from __future__ import annotations

import torch
from gpu_models import Rows, Scale, new_options, weight_file
from torch import Tensor

from experiments.backbones.constant import ConstantBackbone
from experiments.fewshot.model import build_method
from experiments.fewshot.models.abcb.histogram import _SumsAbove, front_histogram, unit_vectors
from experiments.fewshot.models.abcb.packed import Reach, _fixed, _packed


def equal(scale: Scale) -> Rows:
    """Largest error of each fast path beside its reference, relative to the largest value."""
    return [
        ("error of the histogram kernel", _histogram_error(scale), "of bf16"),
        ("error of its gradient", _histogram_error(scale, of_gradient=True), "of bf16"),
        ("error of packed attention", _attention_error(scale), "of bf16"),
        ("error of its gradients", _attention_error(scale, of_gradient=True), "of bf16"),
        ("error of the constant backbone", _backbone_error(scale), "of bf16"),
    ]


BF16 = 2.0**-8


def _error(ours: list[Tensor], oracle: list[Tensor]) -> float:
    """Largest difference, in roundings of bf16 of the largest value."""
    pairs = zip(ours, oracle, strict=True)
    errors = [(a.double() - b.double()).abs().max() / b.abs().max() for a, b in pairs]
    return max(float(error.detach()) for error in errors) / BF16


def _histogram_error(scale: Scale, *, of_gradient: bool = False) -> float:
    torch.manual_seed(1)
    counts = torch.tensor([300, 0, 1, 177], dtype=torch.int32, device=scale.device)
    values = torch.randn(4, 300, 96, device=scale.device) + 0.3
    is_real = torch.arange(300, device=scale.device) < counts[:, None]
    unit = unit_vectors(values).bfloat16().requires_grad_()
    exact = (unit.detach().double() * is_real[:, :, None]).requires_grad_()
    ours = front_histogram(unit, counts, 16)
    above = _SumsAbove.apply(exact, 16)
    pairs = (counts.double() ** 2)[:, None]
    edges = torch.cat([pairs, above, torch.zeros_like(pairs)], dim=1)
    oracle = -edges.diff(dim=1) / pairs.clamp(min=1)
    if not of_gradient:
        return _error([ours], [oracle])
    weights = torch.randn(4, 16, device=scale.device)
    grads = [
        torch.autograd.grad((x * weights).sum(), y)[0] for x, y in ((ours, unit), (oracle, exact))
    ]
    return _error([grads[0]], [grads[1]])


def _attention_error(scale: Scale, *, of_gradient: bool = False) -> float:
    torch.manual_seed(2)
    lengths = torch.tensor([[5, 300, 0, 90], [0, 300, 10, 10], [40, 41, 0, 400]])
    reach = Reach(*lengths.to(torch.int32).to(scale.device).T)
    parts = [torch.randn(3, n, 4, 64, device=scale.device) for n in (300, 400, 400)]
    bias = torch.randn(3, 400, device=scale.device)
    half = [part.bfloat16().requires_grad_() for part in parts]
    exact = [part.detach().double().requires_grad_() for part in half]
    # Flash attention is on GPUs alone.
    ours = (_packed if scale.device == "cuda" else _fixed)(half, reach, bias.bfloat16())
    oracle = _fixed([x.cpu() for x in exact], _on_cpu(reach), bias.bfloat16().double().cpu())
    if not of_gradient:
        return _error([ours.cpu()], [oracle])
    weights = torch.randn(oracle.shape, dtype=torch.float64)
    mine = torch.autograd.grad((ours.cpu().double() * weights).sum(), half)
    theirs = torch.autograd.grad((oracle * weights).sum(), exact)
    return _error(list(mine), list(theirs))


def _on_cpu(reach: Reach) -> Reach:
    return Reach(reach.q_start.cpu(), reach.q_stop.cpu(), reach.k_start.cpu(), reach.k_stop.cpu())


def _backbone_error(scale: Scale) -> float:
    model = build_method(new_options(scale), weight_file(scale)).to(scale.device)
    images = torch.rand(2, 3, 65, 65, device=scale.device) * 255
    constant = ConstantBackbone(model.backbone, torch.bfloat16)
    return _error(list(constant(images)), list(model.backbone(images)))
