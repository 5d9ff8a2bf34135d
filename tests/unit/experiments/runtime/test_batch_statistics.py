"""Whether a training normalises by what is computed at a time."""

from __future__ import annotations

from typing import Self

import pytest
from torch import nn

from experiments.runtime.batch_statistics import trains_batch_norm
from experiments.runtime.options import OptimiserOptions
from experiments.runtime.stages import Stage


def stage(*trains: str) -> Stage:
    return Stage(epochs=1, optimiser=OptimiserOptions(), name=str(trains), trains=trains or None)


class Frozen(nn.Sequential):
    """Stays in eval(), as a pretrained backbone does."""

    def train(self, mode: bool = True) -> Self:
        return super().train(mode and False)


def model(encoder: type[nn.Sequential], norm: nn.Module) -> nn.Module:
    parts = nn.Module()
    parts.encoder = encoder(nn.Conv2d(1, 4, 1), norm)
    parts.head = nn.Conv2d(4, 1, 1)
    return parts


@pytest.mark.parametrize(
    ("encoder", "norm", "stages", "found"),
    [
        (nn.Sequential, nn.BatchNorm2d(4), [stage()], True),
        (nn.Sequential, nn.SyncBatchNorm(4), [stage()], True),
        (nn.Sequential, nn.GroupNorm(2, 4), [stage()], False),
        (Frozen, nn.BatchNorm2d(4), [stage()], False),
        (nn.Sequential, nn.BatchNorm2d(4), [stage("head")], False),
        (nn.Sequential, nn.BatchNorm2d(4), [stage("encoder"), stage("head")], True),
    ],
)
def test_batch_norm_counts_where_a_stage_trains_it(
    encoder: type[nn.Sequential], norm: nn.Module, stages: list[Stage], found: bool
) -> None:
    parts = model(encoder, norm)
    assert trains_batch_norm(parts, stages) is found
    assert not any(module.training for module in parts.modules())
