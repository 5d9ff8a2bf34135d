"""The side of the training images in each epoch: progressive resizing."""

from __future__ import annotations

import math

from experiments.imagenet.options import SizeOptions


def train_size(epoch: int, sizes: SizeOptions) -> int:
    """Side in pixels in `epoch`, counted from 0.

    `first_size` up to the epoch `ramp_start`, `last_size` from `ramp_end` on, between them on a
    line, rounded to a multiple of `size_step`, halves up.
    """
    if epoch >= sizes.ramp_end:
        return sizes.last_size
    if epoch <= sizes.ramp_start:
        return sizes.first_size
    part = (epoch - sizes.ramp_start) / (sizes.ramp_end - sizes.ramp_start)
    side = sizes.first_size + part * (sizes.last_size - sizes.first_size)
    return math.floor(side / sizes.size_step + 0.5) * sizes.size_step
