"""Whether what a model returns is a number: a model that is destroyed may still give a result.

A mask that is made from NaN is empty, and an empty mask has an IoU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from experiments.runtime.entry import NonFiniteError


def require_finite(values: Tensor, what: str) -> Tensor:
    """`values`. NonFiniteError where one is NaN or infinite; this waits for the GPU."""
    if not bool(torch.isfinite(values).all()):
        raise NonFiniteError(f"{what} is NaN or infinite")
    return values


def is_finite(prediction: object) -> bool:
    """Whether all numbers in arrays, tensors, sequences, mappings and dataclasses are finite."""
    if isinstance(prediction, Mapping):
        return all(is_finite(each) for each in prediction.values())
    if isinstance(prediction, list | tuple):
        return all(is_finite(each) for each in prediction)
    if dataclasses.is_dataclass(prediction):
        return all(is_finite(getattr(prediction, each.name)) for each in fields(prediction))
    if isinstance(prediction, Tensor):
        return not prediction.is_floating_point() or bool(torch.isfinite(prediction).all())
    if isinstance(prediction, float | np.floating | np.ndarray):
        array = np.asarray(prediction)
        return array.dtype.kind != "f" or bool(np.isfinite(array).all())
    return True
