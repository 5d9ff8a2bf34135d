"""Putting ABCB where all of its steps have something to do."""

from __future__ import annotations

from torch import Tensor

from experiments.fewshot.models.abcb.model import Abcb
from experiments.fewshot.models.base import Output


def balance(model: Abcb, output: Output) -> None:
    """Shift the classifier so that half of the first prediction's cells are foreground.

    The threshold comes to lie between two cells: at a cell, rounding would decide.
    """
    first = output.auxiliary[0][0]
    margins: Tensor = (first[:, 1] - first[:, 0]).flatten().sort().values
    middle = len(margins) // 2
    model.qp.classify.bias[1] -= margins[middle - 1 : middle + 1].mean()
