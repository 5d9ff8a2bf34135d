"""The affinity histogram in one pass on a GPU: Triton kernels for its sums and their gradient.

A tile of affinities lives in registers: it is computed, shared out to the bins and forgotten. Only
tiles on and above the diagonal are computed forward. Rows from a set's size on are padding and are
never read, so no shape depends on the sizes, and the host reads none. Nothing is added with
atomics: the same input gives the same bits.

Without a GPU the kernels run in Triton's interpreter (TRITON_INTERPRET=1 before the first import).
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import next_power_of_2

FORWARD_ROWS = 128
BACKWARD_ROWS = 64
"""Rows and columns of a tile; backward a program also holds these rows' gradient in registers."""
CHANNEL_STEP = 64
"""Channels that are multiplied at a time."""
GRADIENT_CHANNELS = 256
"""Channels of the gradient that one backward program computes: all of them would not fit."""


def sums_above(unit_BMC: Tensor, counts_B: Tensor, num_bins: int) -> Tensor:
    """S_0 ... S_(L-2) of each set of unit vectors, float64 B (L - 1); only counts_B rows count."""
    unit_BMC = unit_BMC.contiguous()
    batch, length, channels = unit_BMC.shape
    num_tiles = triton.cdiv(length, FORWARD_ROWS)
    width = next_power_of_2(num_bins)
    # Zeros: a tile without any real row or column writes nothing.
    parts = unit_BMC.new_zeros(batch, num_tiles * num_tiles, width, dtype=torch.float32)
    _sums_kernel[num_tiles, num_tiles, batch](
        unit_BMC,
        counts_B,
        parts,
        length,
        channels,
        NUM_BINS=num_bins,
        WIDTH=width,
        ROWS=FORWARD_ROWS,
        STEP=_channel_step(channels),
        PRECISION=_precision(unit_BMC),
        num_warps=8,
        num_stages=2,
        enable_fp_fusion=True,
    )
    # Contiguous, as torch.compile is told: it takes no other strides.
    return parts.sum(1, dtype=torch.float64)[:, : num_bins - 1].contiguous()


def gradient(unit_BMC: Tensor, counts_B: Tensor, slopes_BL: Tensor) -> Tensor:
    """Gradient of the sums, weighted by slopes, for the unit vectors: float32 B M C, 0 for padding.

    `slopes_BL` are the derivatives by the affinity inside each of the L - 1 spaces between centres.
    """
    unit_BMC = unit_BMC.contiguous()
    batch, length, channels = unit_BMC.shape
    grad_BMC = unit_BMC.new_empty(unit_BMC.shape, dtype=torch.float32)
    # In the loss a slope is divided by the number of pairs: too small a number for float16.
    scale_B = slopes_BL.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny)
    scaled_BL = (slopes_BL / scale_B[:, None]).float()
    part = min(GRADIENT_CHANNELS, max(16, next_power_of_2(channels)))
    grid = triton.cdiv(length, BACKWARD_ROWS), triton.cdiv(channels, part), batch
    _gradient_kernel[grid](
        unit_BMC,
        counts_B,
        scaled_BL,
        scale_B.float(),
        grad_BMC,
        length,
        channels,
        NUM_BINS=slopes_BL.shape[1] + 1,
        ROWS=BACKWARD_ROWS,
        STEP=_channel_step(channels),
        PART=part,
        PRECISION=_precision(unit_BMC),
        num_warps=8,
        num_stages=2,
        enable_fp_fusion=True,
    )
    return grad_BMC


def _channel_step(channels: int) -> int:
    # A tile product on tensor cores needs at least 16.
    return min(CHANNEL_STEP, max(16, int(next_power_of_2(channels))))


def _precision(unit_BMC: Tensor) -> str:
    """Of products of float32; half types are multiplied as they are."""
    is_wide = unit_BMC.shape[2] > CHANNEL_STEP
    return "tf32" if is_wide and torch.backends.cuda.matmul.allow_tf32 else "ieee"


@triton.jit
def _affinity(
    unit,
    rows,
    columns,
    count,
    channels,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Products of the set's rows and columns, 0 from `count` on."""
    affinity = tl.zeros((ROWS, ROWS), dtype=tl.float32)
    steps = tl.arange(0, STEP)
    for start in range(0, channels, STEP):
        channel = start + steps
        is_channel = channel < channels
        left = tl.load(
            unit + rows[:, None] * channels + channel[None, :],
            mask=(rows < count)[:, None] & is_channel[None, :],
            other=0.0,
        )
        right = tl.load(
            unit + columns[None, :] * channels + channel[:, None],
            mask=(columns < count)[None, :] & is_channel[:, None],
            other=0.0,
        )
        affinity = tl.dot(left, right, affinity, input_precision=PRECISION)
    return affinity


@triton.jit
def _sums_kernel(
    unit,
    counts,
    parts,
    length,
    channels,
    NUM_BINS: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One tile of one set: its part of S_0 ... S_(L-2)."""
    row_tile, column_tile, item = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    count = tl.load(counts + item)
    if (column_tile >= row_tile) & (column_tile * ROWS < count):
        rows = row_tile * ROWS + tl.arange(0, ROWS)
        columns = column_tile * ROWS + tl.arange(0, ROWS)
        start = unit + item.to(tl.int64) * length * channels
        affinity = _affinity(start, rows, columns, count, channels, ROWS, STEP, PRECISION)
        place = tl.minimum(tl.maximum(affinity, 0.0), 1.0) * (NUM_BINS - 1)
        bins = tl.arange(0, WIDTH)
        sums = tl.zeros((ROWS, WIDTH), dtype=tl.float32)
        for level in tl.static_range(NUM_BINS - 1):
            above = tl.sum(tl.minimum(tl.maximum(place - level, 0.0), 1.0), axis=1)
            sums += tl.where(bins[None, :] == level, above[:, None], 0.0)
        # Below the diagonal lies the mirror image of a tile that is not on it.
        weight = tl.where(row_tile == column_tile, 1.0, 2.0)
        tile = (item * tl.num_programs(0) + row_tile) * tl.num_programs(1) + column_tile
        tl.store(parts + tile * WIDTH + bins, tl.sum(sums, axis=0) * weight)


@triton.jit
def _gradient_kernel(
    unit,
    counts,
    slopes,
    scales,
    grad,
    length,
    channels,
    NUM_BINS: tl.constexpr,
    ROWS: tl.constexpr,
    STEP: tl.constexpr,
    PART: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Some rows and channels of one set's gradient: the sum over j of slope(i, j) u_j."""
    item = tl.program_id(2)
    count = tl.load(counts + item)
    start = item.to(tl.int64) * length * channels
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    part = tl.program_id(1) * PART + tl.arange(0, PART)
    total = tl.zeros((ROWS, PART), dtype=tl.float32)
    # Rows that are all padding need no column.
    stop = tl.where(tl.program_id(0) * ROWS < count, count, 0)
    for first in range(0, stop, ROWS):
        columns = first + tl.arange(0, ROWS)
        affinity = _affinity(unit + start, rows, columns, count, channels, ROWS, STEP, PRECISION)
        place = tl.minimum(tl.maximum(affinity, 0.0), 1.0) * (NUM_BINS - 1)
        # Clamped as integers: a NaN, too, must not read beyond the slopes.
        space = tl.minimum(tl.maximum(place.to(tl.int32), 0), NUM_BINS - 2)
        slope = tl.load(slopes + item * (NUM_BINS - 1) + space)
        slope = tl.where(place == 0, 0.0, slope)
        values = tl.load(
            unit + start + columns[:, None] * channels + part[None, :],
            mask=(columns < count)[:, None] & (part < channels)[None, :],
            other=0.0,
        )
        total = tl.dot(slope.to(values.dtype), values, total, input_precision=PRECISION)
    total *= tl.load(scales + item)
    target = grad + start + rows[:, None] * channels + part[None, :]
    tl.store(target, total, mask=(rows < length)[:, None] & (part < channels)[None, :])
