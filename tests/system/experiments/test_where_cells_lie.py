"""Where the cells of real backbones lie, against the gradients of their input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from experiments.backbones.build import BACKBONES, Backbone, build_backbone
from experiments.backbones.weight_files import Stem

pytestmark = pytest.mark.system

RESNETS: list[tuple[str, Stem]] = [
    ("resnet18", "plain"),
    ("resnet50", "plain"),
    ("resnet50", "deep"),
]
EFFICIENTNETS = [name for name in BACKBONES if name.startswith("efficientnet_lite")]


def _transparent(name: str, stem: Stem = "plain", output_stride: int = 8) -> Backbone:
    """Symmetric positive weights, which fall off quickly: gradients are centred on the cell."""
    with torch.device("meta"):
        backbone = build_backbone(
            name, from_scratch=True, levels=(2, 3, 4), output_stride=output_stride, stem=stem
        )
    backbone.to_empty(device="cpu")
    for module in list(backbone.modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):  # its gradient goes to one pixel of equal ones
                window = child.kernel_size, child.stride, child.padding
                setattr(module, child_name, nn.AvgPool2d(*window))
        if isinstance(module, nn.Conv2d):
            taps = torch.full((module.kernel_size[0],), 0.02)
            taps[len(taps) // 2] = 1.0
            module.weight.data.copy_(torch.outer(taps, taps) / module.in_channels)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    # In float32 the far ends of a gradient are subnormal numbers, which take 50 times as long.
    return backbone.eval().double().requires_grad_(False)


def _centre_seen_by(backbone: Backbone, size: int, cell: int) -> float:
    """Mean row of the pixels of a narrow image that a cell sees, weighted by their gradient."""
    x = image = torch.full((1, 3, size, 8), 1e-3, dtype=torch.float64, requires_grad=True)
    for stage in backbone.stages:
        x = stage(x)
    (gradient,) = torch.autograd.grad(x[0, :, cell].sum(), image)
    weight_H = gradient.abs().sum((0, 1, 3))
    return float((weight_H * torch.arange(size)).sum() / weight_H.sum())


@pytest.mark.parametrize(("name", "stem"), RESNETS)
def test_a_cell_is_centred_on_the_pixel_that_its_gradient_says(name: str, stem: Stem) -> None:
    backbone = _transparent(name, stem)
    for size in (473, 641, 160):
        rows = backbone.grid((size, 8)).rows
        assert (rows.step, rows.count) == (8, (size + 7) // 8)
        assert rows == backbone.grid((size, 8), level=2).rows
        cell = rows.count // 2
        assert _centre_seen_by(backbone, size, cell) == pytest.approx(
            rows.first + 8 * cell, abs=0.1
        ), size


def test_cells_of_a_larger_stride_lie_where_their_gradient_says() -> None:
    rows = (backbone := _transparent("resnet18", output_stride=32)).grid((160, 8)).rows
    assert rows.step == 32
    assert _centre_seen_by(backbone, 160, 2) == pytest.approx(rows.first + 64, abs=0.1)


@pytest.mark.parametrize(("size", "first"), [(160, 3.5), (237, 0.5), (473, -3.5), (641, -3.5)])
@pytest.mark.parametrize("name", EFFICIENTNETS)
def test_cells_of_an_efficientnet_lie_where_the_gradient_of_its_weights_says(
    name: str, size: int, first: float
) -> None:
    backbone = build_backbone(name, levels=(2,))
    rows = backbone.grid((size, 16)).rows
    assert (rows.first, rows.step, rows.count) == (first, 8, (size + 7) // 8)
    cells = range(rows.count // 2 - 2, rows.count // 2 + 2)
    torch.manual_seed(size)
    noise = torch.nn.functional.interpolate(torch.rand(1, 3, size // 4, 16), (size, 64))
    offsets = [_mean_row(backbone, noise * 255, cell) - 8 * cell for cell in cells]
    assert sum(offsets) / len(offsets) == pytest.approx(first, abs=1.0)


def _mean_row(backbone: Backbone, image: Tensor, cell: int) -> float:
    x = image.clone().requires_grad_()
    cells_CW = _features(backbone, x)[0, :, cell]
    weight_H = torch.zeros(image.shape[2])
    for _ in range(4):
        value = (cells_CW * torch.randn(len(cells_CW), 1)).sum()
        weight_H += torch.autograd.grad(value, x, retain_graph=True)[0].abs().sum((0, 1, 3))
    return float((weight_H * torch.arange(len(weight_H))).sum() / weight_H.sum())


def _features(backbone: Backbone, x: Tensor) -> Tensor:
    """As the backbone computes them, but with gradients although it is frozen."""
    x = backbone.normalise(x)
    for stage in backbone.stages:
        x = stage(x)
    return x
