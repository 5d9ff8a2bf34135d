"""Parts of the saliency experiment for tests: generated images, features without a weight file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from experiments.runtime.options import build
from experiments.saliency.data import SaliencyData, split_data
from experiments.saliency.files import FileSource
from experiments.saliency.model import SaliencyModel
from experiments.saliency.options import Options
from experiments.saliency.task import SaliencyTask
from support.mit1003 import small_copy

SMALL: dict[str, Any] = {
    "dataset": "beacons",
    "image_width": 48,
    "image_height": 32,
    "bias_bandwidth": 0.1,
    "bias_uniform": 0.001,
    "pixels_per_degree": 4.0,
    "hidden": [4],
}


def saliency_options(**values: Any) -> Options:
    """The options of a run.json with these values over SMALL."""
    return build(Options, {**SMALL, **values}, "saliency")


class PooledColours(nn.Module):
    """Features of strides 8 and 16 that need no weights: mean colours."""

    out_channels = (3, 3)
    weights_id = "colours"

    def forward(self, image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        finest = nn.functional.avg_pool2d(image_B3HW / 128 - 1, 8, ceil_mode=True)
        return finest, nn.functional.avg_pool2d(finest, 2, ceil_mode=True)


def new_model(hidden: tuple[int, ...] = (4,)) -> SaliencyModel:
    """An untrained readout over `PooledColours`."""
    torch.manual_seed(0)
    return SaliencyModel(cast(Any, PooledColours()), hidden, blur_cells=1.0)


def small_data(folder: Path, options: Options, num_images: int = 12) -> SaliencyData:
    """The first generated images, divided as the options say."""
    root = folder / "data"
    if not root.is_dir():
        small_copy(root, num_images)
    return split_data(options, FileSource.open(root, folder / "cache", "points"))


def new_task(options: Options, data: SaliencyData) -> SaliencyTask:
    """A task outside of any run."""
    return SaliencyTask(options, cast(Any, None), data)
