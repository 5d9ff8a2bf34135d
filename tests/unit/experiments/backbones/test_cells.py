"""The ways between cells and pixels; where cells lie is tested with real backbones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from experiments.backbones.cells import (
    CellAxis,
    CellGrid,
    cells_to_pixels,
    pixels_to_cells,
)


def _grid(first: float, count: int, length: int, step: float = 8.0) -> CellGrid:
    axis = CellAxis(first, step, count, length)
    return CellGrid(axis, axis)


@pytest.mark.parametrize(("first", "length"), [(0.0, 33), (7.0, 40), (3.5, 40)])
def test_a_ramp_comes_back_where_it_was(first: float, length: int) -> None:
    grid = _grid(first, 5, length)
    centres = first + 8 * torch.arange(5.0)
    pixels = cells_to_pixels(centres.expand(1, 1, 5, 5), grid)[0, 0, 0]
    expected = torch.arange(float(length)).clamp(centres[0], centres[-1])
    torch.testing.assert_close(pixels, expected)


def test_pixels_are_shared_by_the_cells_that_they_are_nearest_to() -> None:
    image = torch.zeros(1, 1, 33, 33)
    image[..., 12] = 1.0
    fractions = pixels_to_cells(image, _grid(0.0, 5, 33))[0, 0]
    expected = torch.tensor([0.0, 0.5 / 8, 0.5 / 8, 0.0, 0.0]).expand(5, 5)
    torch.testing.assert_close(fractions, expected)


@pytest.mark.parametrize(("first", "length"), [(0.0, 33), (0.0, 40), (7.0, 40)])
def test_every_pixel_counts_in_some_cell(first: float, length: int) -> None:
    grid = _grid(first, 5, length)
    image = torch.zeros(length, 1, length, length)
    image[torch.arange(length), 0, torch.arange(length), length - 1] = 1.0
    assert (pixels_to_cells(image, grid).sum((1, 2, 3)) > 0).all()
    torch.testing.assert_close(
        pixels_to_cells(torch.ones_like(image), grid).mean(), torch.tensor(1.0)
    )


def test_fractions_are_exact_in_the_lowest_precision_of_a_matrix_product() -> None:
    mask = (torch.rand(2, 1, 473, 473) < 0.4).float()
    grid = _grid(0.0, 60, 473)
    exact = pixels_to_cells(mask.double(), grid)
    torch.testing.assert_close(pixels_to_cells(mask, grid).double(), exact, rtol=1e-6, atol=0)


def test_the_nearest_cell_to_each_pixel_is_found_again() -> None:
    grid = _grid(7.0, 20, 160)
    cells = torch.arange(20.0).expand(1, 1, 20, 20)
    row: Tensor = cells_to_pixels(cells, grid)[0, 0, 0]
    assert row[7 + 8 * 4] == 4.0
    assert row[:8].tolist() == [0.0] * 8


def test_a_tensor_made_in_inference_mode_serves_a_backward_pass() -> None:
    grid = _grid(0.0, 3, 19)
    with torch.inference_mode():
        cells_to_pixels(torch.ones(1, 1, 3, 3), grid)
    cells = torch.ones(1, 1, 3, 3, requires_grad=True)
    cells_to_pixels(cells, grid).sum().backward()
    assert cells.grad is not None
    assert cells.grad.sum() == pytest.approx(19 * 19)
