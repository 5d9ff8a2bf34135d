"""Batches in parts, on a device, and the weight of each part in the loss of the global batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Batch = Any
"""A tensor, or tuples, named tuples and dicts of batches."""


def num_items(batch: Batch) -> int:
    """The length of its tensors. ValueError where it holds none, or tensors of unequal length."""
    lengths: set[int] = set()
    apply_to_tensors(batch, lambda tensor: lengths.add(len(tensor)))
    if len(lengths) != 1:
        raise ValueError(
            f"a batch of tensors with lengths {sorted(lengths)}: override Task.split and weights"
        )
    return lengths.pop()


def slices(batch: Batch, size: int) -> list[Batch]:
    """`batch` in parts of `size` items, the last one shorter, along each tensor's first dimension.

    ValueError where the batch holds no tensor, or tensors of unequal length.
    """
    length = num_items(batch)
    return [_items(batch, slice(start, start + size)) for start in range(0, length, size)]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """`batch` with its tensors on `device`; pinned memory is copied without waiting."""
    return apply_to_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def shares(
    part: Mapping[str, int], whole: Mapping[str, int], *, parts: int = 1
) -> dict[str, float]:
    """For each count of `part` its share of `whole`, relative to the mean over `parts`.

    Where the whole batch has none of it (all pixels are ignored), each share is 1: a loss that is
    0 stays 0.
    """
    return {
        name: count * parts / whole[name] if whole[name] else 1.0 for name, count in part.items()
    }


def _items(batch: Batch, which: slice) -> Batch:
    return apply_to_tensors(batch, lambda tensor: tensor[which])


def apply_to_tensors(batch: Batch, function: Callable[[Tensor], object]) -> Batch:
    """`batch` with `function` applied to each tensor; all else stays as it is."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: apply_to_tensors(value, function) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [apply_to_tensors(value, function) for value in batch]
        # A named tuple takes its fields as arguments, a plain one a sequence.
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch
