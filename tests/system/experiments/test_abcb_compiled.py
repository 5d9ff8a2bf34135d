"""Iterations in fixed shapes are captured whole, once for all of them and for all sizes."""

from __future__ import annotations

import functools

import pytest
import torch
from support.abcb import balance
from torch import nn
from torch._dynamo.utils import counters

from experiments.backbones.build import Backbone
from experiments.fewshot.faster import make_faster
from experiments.fewshot.models.abcb import prior
from experiments.fewshot.models.abcb.correlation import CorrelationNeck
from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.losses import segmentation_loss
from experiments.fewshot.options import AbcbOptions, TrainingOptions
from experiments.runtime.precision import Precision

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    # torch's own: it looks at the gradients of what enters a graph.
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
]

CPU = Precision("off", torch.device("cpu"))


def _model() -> Abcb:
    torch.manual_seed(0)
    stages: list[nn.Module] = [nn.Conv2d(3, 8, 3, stride=4, padding=1)]
    stages.append(nn.Sequential(nn.ReLU(), nn.Conv2d(8, 128, 3, stride=2, padding=1)))
    backbone = Backbone("resnet18", stages, (2,), "two frozen convolutions")
    options = AbcbOptions(channels=16, num_heads=2, initialisation="random", neck="convolution")
    return Abcb(backbone, options)


def test_an_iteration_is_one_graph_that_computes_the_same_for_other_sizes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the graphs of torch.compile and their gradients, but without a compiler of C++."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    plain, compiled = _model(), _model()
    fixed = TrainingOptions(fixed_shapes="on")
    assert make_faster(plain, fixed, CPU) == ("fixed_shapes",)
    assert make_faster(compiled, fixed, CPU) == ("fixed_shapes",)
    compiled.compile_iterations(dynamic=False)
    images = torch.rand(2, 2, 3, 48, 48) * 255
    mask = torch.zeros(2, 1, 48, 48, dtype=torch.uint8)
    mask[0, :, :20, :30], mask[1, :, 8:40] = 1, 1
    with torch.no_grad():
        balance(plain, plain(images[:, 0], images[:, 1:], mask))
    compiled.load_state_dict(plain.state_dict())
    counters.clear()
    for masks in (mask, mask.roll(1, 0), 1 - mask):
        losses = []
        for model in (plain, compiled):
            model.zero_grad()
            output = model(images[:, 0], images[:, 1:], masks)
            losses.append(segmentation_loss(output, masks[:, 0]))
            losses[-1].backward()
        torch.testing.assert_close(losses[1], losses[0])
        for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 2, "one for the beginning, one for all iterations"


def test_the_correlation_neck_is_one_graph_for_all_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the form that a GPU computes, whose shapes depend on no mask."""
    monkeypatch.setattr(prior, "_of_members", prior._dense)
    torch._dynamo.reset()
    torch.manual_seed(0)
    neck = CorrelationNeck((6, 10, 12), 16, "unit", joined=(0, 1), compared=(1,), dropout=0.0)
    compiled = torch.compile(neck, backend="aot_eager", fullgraph=True, dynamic=False)
    query = tuple(torch.randn(2, channels, 8, 8) for channels in (6, 10, 12))
    support = tuple(torch.randn(2, 1, channels, 8, 8) for channels in (6, 10, 12))
    counters.clear()
    for share in (0.0, 0.2, 0.6, 1.0):
        is_member = torch.rand(2, 1, 8, 8) < share
        gradients = []
        for form in (neck, compiled):
            neck.zero_grad()
            outputs = form(query, support, is_member)
            sum(output.square().sum() for output in outputs).backward()
            gradients.append([parameter.grad for parameter in neck.parameters()])
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
